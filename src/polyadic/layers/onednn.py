"""A convolution on the processor with what comes after it, in one call of oneDNN, its kernel packed beforehand.

Eager PyTorch hands a kernel to oneDNN as it lies in memory, and oneDNN lays it out anew in every pass; at small batches
that takes a fifth of the time. Here a kernel is laid out once for an input of a given shape, and again where the shape
or the kernel has changed. The plain kernel stays what is trained, saved and exchanged.
"""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LAST = torch.channels_last
_PACKED: WeakKeyDictionary[nn.Module, tuple[Any, Tensor]] = WeakKeyDictionary()
"""Of each layer the state that its kernel was packed in, and the packed kernel."""

Limits = tuple[float, float]
"""What an activation cuts an answer off at: (0, inf) is a ReLU, (0, 6) a ReLU6."""


def is_packable(layer: nn.Module) -> bool:
    """Whether its calls can be taken over: torch's own, zeros as padding, nobody watching, weights of its own."""
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def convolution(x: Tensor, layer: nn.Conv2d, limits: Limits | None) -> Tensor:
    """``layer(x)``, then the activation if there is one; (N, S, ...) to (N, T, ...)."""
    if not _is_fast(x):
        return _limited(layer(x), limits)
    name, numbers = (
        ("none", []) if limits is None else ("relu", []) if limits[1] == math.inf else ("hardtanh", [*limits])
    )
    answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, _packed(layer, x), layer.bias, *_geometry(layer), name, numbers, ""
    )
    return answer


def convolution_and_sum(x: Tensor, layer: nn.Conv2d, other: Tensor, limits: Limits | None, overwrite: bool) -> Tensor:
    """``layer(x) + other``, then the activation if there is one.

    Args:
        x: input (N, S, ...).
        layer: gives (N, T, ...).
        other: what is added.
        limits: of the activation.
        overwrite: write the answer over ``other``, which nobody reads any more.
    """
    if not _is_fast(x) or other.dtype != x.dtype or other.shape != _answers(layer, x) or not _is_last(other):
        return _limited(layer(x) + other, limits)
    if limits is not None and limits[1] != math.inf:
        return _limited(convolution_and_sum(x, layer, other, None, overwrite), limits)
    then: tuple[Any, ...] = ("add", 1.0, None if limits is None else "relu", [], None)
    form, images = torch.ops.mkldnn._convolution_pointwise.binary, (x, other)
    if overwrite:
        form, images = torch.ops.mkldnn._convolution_pointwise_.binary, (other, x)
    answer: Tensor = form(*images, _packed(layer, x), layer.bias, *_geometry(layer), *then)
    return answer


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    return layer.padding, layer.stride, layer.dilation, layer.groups


def _is_fast(x: Tensor) -> bool:
    """Whether oneDNN has a faster form here: images in channels-last on the processor, without gradients."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch._C._get_mkldnn_enabled()
        and _is_last(x)
    )


def _is_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=_LAST) and x.numel() > 0


def _answers(layer: nn.Conv2d, x: Tensor) -> tuple[int, ...]:
    """The shape of what a layer puts out."""
    pads: Any = layer.padding  # numbers, or the layer would not be one of ours
    sizes = [
        (size + 2 * pad - step * (taps - 1) - 1) // stride + 1
        for size, pad, step, taps, stride in zip(
            x.shape[2:], pads, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    return (x.shape[0], layer.out_channels, *sizes)


def _packed(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The kernel as oneDNN wants it for inputs like ``x``."""
    kernel = layer.weight
    state = (x.shape, kernel.data_ptr(), None if kernel.is_inference() else kernel._version)
    held = _PACKED.get(layer)
    if held is None or held[0] != state:
        laid_out = torch.ops.mkldnn._reorder_convolution_weight(kernel.detach(), *_geometry(layer), list(x.shape))
        held = _PACKED[layer] = (state, laid_out)
    return held[1]


def _limited(x: Tensor, limits: Limits | None) -> Tensor:
    if limits is None:
        return x
    return F.relu(x) if limits[1] == math.inf else F.hardtanh(x, *limits)
