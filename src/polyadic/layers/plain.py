"""Plain torch layers and their description in integers, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyadic.schema import ConvSpec

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_TRANSPOSED: dict[int, type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def spec_of(module: nn.Module) -> ConvSpec | None:
    """The description of a plain ``nn.Linear``, ``nn.Conv1d/2d/3d`` or ``nn.ConvTranspose1d/2d/3d``.

    A layer whose weight is parametrised is described as the class that it was before. None for every other class,
    subclasses too.
    """
    kind = nn.utils.parametrize.type_before_parametrizations(module)
    if kind is nn.Linear:
        linear = cast(nn.Linear, module)
        return ConvSpec(linear.in_features, linear.out_features, bias=linear.bias is not None)
    transposed = kind in _TRANSPOSED.values()
    if kind not in _CONVOLUTIONS.values() and not transposed:
        return None
    conv = cast(nn.Conv2d, module)
    padding = conv.padding
    if padding == "valid":
        padding = (0,) * len(conv.kernel_size)
    return ConvSpec(
        conv.in_channels,
        conv.out_channels,
        tuple(conv.kernel_size),
        tuple(conv.stride),
        "same" if padding == "same" else cast("tuple[int, ...]", tuple(padding)),
        tuple(conv.dilation),
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
        transposed,
        tuple(conv.output_padding) if transposed else (),
    )


def plain_layer(spec: ConvSpec, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """The torch layer that ``spec`` describes, with uninitialised weights on ``device``."""
    with torch.device("meta"):  # no time for an initialisation that is thrown away
        layer = _linear(spec, dtype) if spec.axes == 0 else _convolution(spec, dtype)
    return layer.to_empty(device=device)


def kernel_of(weight: Tensor, spec: ConvSpec) -> Tensor:
    """The kernel T x S/groups x window of a layer whose weight torch stores as ``weight``.

    Transposed layers store S x T/groups x window; every other weight is the kernel already.
    """
    return _turned(weight, spec.in_channels // spec.groups, spec.groups) if spec.transposed else weight


def stored(kernel: Tensor, spec: ConvSpec) -> Tensor:
    """The inverse of :func:`kernel_of`: the weight as torch stores it."""
    return _turned(kernel, spec.out_channels // spec.groups, spec.groups) if spec.transposed else kernel


def _turned(weight: Tensor, rows: int, groups: int) -> Tensor:
    """Rows and columns exchanged in each group: (groups rows) x columns to (groups columns) x rows."""
    blocks = weight.reshape(groups, rows, *weight.shape[1:])
    return blocks.transpose(1, 2).flatten(0, 1)


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter, the CPU if there is none."""
    first = next(model.parameters(), None)
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of ``model`` in evaluation mode; on leaving, each goes back to its own."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _linear(spec: ConvSpec, dtype: torch.dtype | None) -> nn.Module:
    return nn.Linear(spec.in_channels, spec.out_channels, bias=spec.bias, dtype=dtype)


def _convolution(spec: ConvSpec, dtype: torch.dtype | None) -> nn.Module:
    geometry: dict[str, Any] = {
        "kernel_size": spec.kernel,
        "stride": spec.stride,
        "padding": spec.padding,
        "dilation": spec.dilation,
        "groups": spec.groups,
        "bias": spec.bias,
        "padding_mode": spec.padding_mode,
        "dtype": dtype,
    }
    if spec.transposed:
        geometry["output_padding"] = spec.output_padding
        return _TRANSPOSED[spec.axes](spec.in_channels, spec.out_channels, **geometry)
    return _CONVOLUTIONS[spec.axes](spec.in_channels, spec.out_channels, **geometry)
