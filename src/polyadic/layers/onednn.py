"""A convolution on the processor with what comes after it, in the faster of two forms, as measured for its input.

Eager PyTorch hands a kernel to oneDNN as it lies in memory, and oneDNN lays it out anew in every pass, which counts at
small batches. The other form is one call of oneDNN for the convolution, the sum and the activation,
with a kernel laid out once. It is not always faster: of small 1 x 1 kernels torch makes a product, at less cost than
that of any call of oneDNN. So both are timed where a layer first meets an input of a shape, and again where the shape
or the kernel has changed. The plain kernel stays what is trained, saved and exchanged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FORM = "_polyadic_form"
_ROUNDS = 7
_CLEARLY = 0.95  # of the plain form's time, which is then taken: times of a few passes are not steadier

Limits = tuple[float, float]
"""What an activation cuts an answer off at: (0, inf) is a ReLU, (0, 6) a ReLU6."""


def is_packable(layer: nn.Module) -> bool:
    """Whether its calls can be taken over: torch's own, zeros as padding, weights of its own."""
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def is_inference() -> bool:
    """Whether passes that begin now need neither gradients nor other number formats, and nobody traces them."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def convolution(x: Tensor, layer: nn.Conv2d, limits: Limits | None, inference: bool) -> Tensor:
    """``layer(x)``, then the activation if there is one; (N, S, ...) to (N, T, ...)."""
    if inference and _is_fast(x):
        return _form(layer, x, limits, None).run(x)
    return _limited(layer(x), limits)


def convolution_and_sum(
    x: Tensor, layer: nn.Conv2d, other: Tensor, limits: Limits | None, overwrite: bool, inference: bool
) -> Tensor:
    """``layer(x) + other``, then the activation if there is one.

    Args:
        x: input (N, S, ...).
        layer: gives (N, T, ...).
        other: what is added.
        limits: of the activation.
        overwrite: the answer may be written over ``other``, which nobody reads any more.
        inference: as :func:`is_inference` said when the pass began.
    """
    if inference and _is_fast(x) and _is_fast(other):
        form = _form(layer, x, limits, other)
        return form.run_over(x, other) if overwrite else form.run_with(x, other)
    return _limited(layer(x) + other, limits)


def _is_fast(x: Tensor) -> bool:
    """Whether oneDNN may have a faster form here: images in channels-last on the processor."""
    return x.dtype == torch.float32 and x.is_cpu and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _form(layer: nn.Conv2d, x: Tensor, limits: Limits | None, other: Tensor | None) -> _Form:
    """How ``layer`` is run for inputs like ``x``."""
    kernel = layer._parameters["weight"]  # torch finds a parameter by its name in a detour through every attribute
    if kernel is None:
        raise ValueError("a convolution without a kernel cannot be run")
    version = None if kernel.is_inference() else kernel._version
    state = (x.shape, kernel.data_ptr(), version, None if other is None else other.shape)
    forms: _Forms = layer.__dict__.get(_FORM) or layer.__dict__.setdefault(_FORM, _Forms())
    use = (limits, other is None)
    form = forms.get(use)
    if form is None or form.state != state:
        form = forms[use] = _Form(layer, x, limits, other, state)
    return form


@final
class _Forms(dict[tuple[Limits | None, bool], "_Form"]):
    """Of a layer, by the activation and whether there is a sum."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Forms:
        """A copied layer finds its own."""
        return _Forms()


@final
class _Form:
    """The faster one of both ways to run a layer, for inputs of one shape."""

    def __init__(self, layer: nn.Conv2d, x: Tensor, limits: Limits | None, other: Tensor | None, state: object) -> None:
        self.state = state
        kernel, bias = layer.weight.detach(), layer.bias
        padding, stride, dilation, groups = places = (layer.padding, layer.stride, layer.dilation, layer.groups)

        def plain(x: Tensor) -> Tensor:
            return torch.conv2d(x, kernel, bias, stride, padding, dilation, groups)

        def plain_relu(x: Tensor) -> Tensor:
            return torch.conv2d(x, kernel, bias, stride, padding, dilation, groups).relu_()

        self.run: Callable[[Tensor], Tensor] = lambda x: _limited_(plain(x), limits)
        if limits is None or limits[1] == math.inf:
            self.run = plain if limits is None else plain_relu
        self.run_with: Callable[[Tensor, Tensor], Tensor] = lambda x, other: _limited(plain(x) + other, limits)
        self.run_over = self.run_with
        answer = plain(x)
        fits = other is None or other.shape == answer.shape
        if not fits or not answer.numel() or not (torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()):
            return
        self.run_over = lambda x, other: _limited_(plain(x).add_(other), limits)
        self.run_with = self.run_over  # the convolution's answer is what is written over
        packed = torch.ops.mkldnn._reorder_convolution_weight(kernel, *places, list(x.shape))
        one, sum_of, sum_over = (
            torch.ops.mkldnn._convolution_pointwise.default,
            torch.ops.mkldnn._convolution_pointwise.binary,
            torch.ops.mkldnn._convolution_pointwise_.binary,
        )
        alone, after = _as_told(limits), (None if limits is None else "relu")

        def joined(x: Tensor) -> Tensor:
            found: Tensor = one(x, packed, bias, *places, *alone)
            return found

        def joined_with(x: Tensor, other: Tensor) -> Tensor:
            found: Tensor = sum_of(x, other, packed, bias, *places, "add", 1.0, after, [], None)
            return found

        def joined_over(x: Tensor, other: Tensor) -> Tensor:
            found: Tensor = sum_over(other, x, packed, bias, *places, "add", 1.0, after, [], None)
            return found

        if other is None:
            if _seconds(joined, x) < _CLEARLY * _seconds(self.run, x):
                self.run = joined
        elif (after is None or limits == (0.0, math.inf)) and (
            _seconds(joined_with, x, other) < _CLEARLY * _seconds(self.run_with, x, other)
        ):
            self.run_with, self.run_over = joined_with, joined_over


def _as_told(limits: Limits | None) -> tuple[str, list[float], str]:
    """The activation in the words of oneDNN's call."""
    if limits is None:
        return "none", [], ""
    return ("relu", [], "") if limits[1] == math.inf else ("hardtanh", [*limits], "")


def _seconds(run: Callable[..., Tensor], *given: Tensor) -> float:
    """The least time of a few passes."""
    run(*given)
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run(*given)
        times.append(time.perf_counter() - began)
    return min(times)


def _limited(x: Tensor, limits: Limits | None) -> Tensor:
    if limits is None:
        return x
    return F.relu(x) if limits[1] == math.inf else F.hardtanh(x, *limits)


def _limited_(x: Tensor, limits: Limits | None) -> Tensor:
    if limits is None:
        return x
    return torch.relu_(x) if limits[1] == math.inf else F.hardtanh_(x, *limits)
