"""Plain torch layers and their description in integers, both ways."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from polyadic.schema import ConvSpec

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


def spec_of(module: nn.Module) -> ConvSpec | None:
    """The description of a plain ``nn.Linear`` or ``nn.Conv1d/2d/3d``; None for every other class, subclasses too."""
    if type(module) is nn.Linear:
        return ConvSpec(module.in_features, module.out_features, bias=module.bias is not None)
    if type(module) not in _CONVOLUTIONS.values():
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
    )


def plain_layer(spec: ConvSpec, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """The torch layer that ``spec`` describes, with uninitialised weights on ``device``."""
    with torch.device("meta"):  # no time for an initialisation that is thrown away
        layer = _linear(spec, dtype) if spec.axes == 0 else _convolution(spec, dtype)
    return layer.to_empty(device=device)


def _linear(spec: ConvSpec, dtype: torch.dtype | None) -> nn.Module:
    return nn.Linear(spec.in_channels, spec.out_channels, bias=spec.bias, dtype=dtype)


def _convolution(spec: ConvSpec, dtype: torch.dtype | None) -> nn.Module:
    return _CONVOLUTIONS[spec.axes](
        spec.in_channels,
        spec.out_channels,
        cast("Any", spec.kernel),
        stride=cast("Any", spec.stride),
        padding=cast("Any", spec.padding),
        dilation=cast("Any", spec.dilation),
        groups=spec.groups,
        bias=spec.bias,
        padding_mode=cast("Any", spec.padding_mode),
        dtype=dtype,
    )


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter, the CPU if there is none."""
    first = next(model.parameters(), None)
    return first.device if first is not None else torch.device("cpu")
