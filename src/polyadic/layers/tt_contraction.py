"""A pass through a tensor-train layer core by core, or through the plain layer with its kernel: functions alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polyadic.schema import ConvSpec, TTSpec

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def apply_kernel(spec: ConvSpec, kernel: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The plain layer ``spec`` of one group, with ``kernel`` T x S x window, on ``x``."""
    return apply_weight(spec, kernel.transpose(0, 1) if spec.transposed else kernel, bias, x)


def apply_weight(spec: ConvSpec, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The plain layer ``spec``, with ``weight`` as torch stores it, on ``x``."""
    if spec.axes == 0:
        return F.linear(x, weight, bias)
    if spec.transposed:
        spread: Callable[..., Tensor] = _CONV_TRANSPOSED[spec.axes]
        return spread(x, weight, bias, spec.stride, spec.padding, spec.output_padding, spec.groups, spec.dilation)
    padding: Any = spec.padding
    if spec.padding_mode != "zeros":
        x, padding = F.pad(x, spec.pads, mode=spec.padding_mode), 0
    gather: Callable[..., Tensor] = _CONV[spec.axes]
    return gather(x, weight, bias, spec.stride, padding, spec.dilation, spec.groups)


def apply_cores(spec: TTSpec, cores: Sequence[Tensor], bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer ``spec`` on ``x``, core by core from one end to the other.

    What is mixed lies between what is done and what is to come. Samples and positions lie last, so that every core is
    one large matrix product.
    """
    if not spec.axes:
        rows = x.reshape(-1, spec.in_channels).mT
        y = _mix(spec, cores, _pad_channels(rows, math.prod(spec.column_modes)))
        y = y[: spec.out_channels].mT.reshape(*x.shape[:-1], spec.out_channels)
        return y if bias is None else y + bias.to(y.dtype)  # autocast made y shorter than the bias
    alone = x.ndim == spec.axes + 1
    x = x.unsqueeze(0) if alone else x
    y = _first_to_last(spec, cores, x) if spec.window_first else _last_to_first(spec, cores, x)
    if bias is not None:
        y = y + bias.to(y.dtype).reshape(-1, *([1] * spec.axes))  # autocast made y shorter than the bias
    return y.squeeze(0) if alone else y


def _first_to_last(spec: TTSpec, cores: Sequence[Tensor], x: Tensor) -> Tensor:
    B, size = x.shape[0], spec.output_size(tuple(x.shape[2:]))
    columns = math.prod(spec.column_modes)
    x = _pad_channels(x.transpose(0, 1), columns)  # S x B x positions
    if spec.windowed:
        filters = cores[0].flatten(0, 2).mT.unsqueeze(1)
        z = _apply_window(spec, filters, x.reshape(columns * B, 1, *x.shape[2:]))
        z = z.reshape(columns, B, z.shape[1], math.prod(size)).permute(2, 0, 1, 3)  # r_0 x S x B x positions
        cores = cores[1:]
    else:
        z = _pad_and_stride(spec, x)
    y = _mix(spec, cores, z.reshape(cores[0].shape[0] * columns, B * math.prod(size)))
    return y[: spec.out_channels].reshape(spec.out_channels, B, *size).transpose(0, 1)


def _last_to_first(spec: TTSpec, cores: Sequence[Tensor], x: Tensor) -> Tensor:
    B, size = x.shape[0], tuple(x.shape[2:])
    x = _pad_channels(x.transpose(0, 1), math.prod(spec.column_modes))
    if not spec.windowed:
        y = _mix(spec, cores, x.reshape(x.shape[0], -1))[: spec.out_channels]
        return _pad_and_stride(spec, y.reshape(spec.out_channels, B, *size)).transpose(0, 1)
    y = _mix(spec, cores[1:], x.reshape(x.shape[0], -1))  # (r_0 T) x (B positions)
    y = y.reshape(cores[0].shape[3], math.prod(spec.row_modes), B, *size)[:, : spec.out_channels]
    y = y.permute(1, 2, 0, *range(3, 3 + spec.axes)).flatten(0, 1)  # (T B) x r_0 x positions
    z = _apply_window(spec, cores[0].flatten(0, 2).mT.unsqueeze(0), y)
    return z.reshape(spec.out_channels, B, *z.shape[2:]).transpose(0, 1)


def _mix(spec: TTSpec, cores: Sequence[Tensor], z: Tensor) -> Tensor:
    """The cores of the channels on ``z``: (r S) x positions to T x positions, or S x positions to (r T) x positions.

    A batch may be empty, so sizes are spelled out where -1 would then be ambiguous.
    """
    positions, rows = z.shape[-1], math.prod(spec.row_modes)
    if spec.window_first:
        done = 1
        for G in cores:  # done x (r s) x (columns to come, positions) to (done t) x q x ...
            r, t, s, q = G.shape
            z = G.permute(1, 3, 0, 2).reshape(t * q, r * s) @ z.reshape(done, r * s, -1)
            done *= t
        return z.reshape(rows, positions)
    left = math.prod(spec.column_modes)
    for G in reversed(cores):  # columns to come x (s q) x (rows done, positions) to ... x (r t) x ...
        r, t, s, q = G.shape
        left //= s
        z = G.reshape(r * t, s * q) @ z.reshape(left, s * q, -1)
    return z.reshape(cores[0].shape[0] * rows, positions)


def _apply_window(spec: TTSpec, filters: Tensor, x: Tensor) -> Tensor:
    """The window's filters (outputs x inputs x taps), with the layer's geometry."""
    return apply_kernel(spec.dense, filters.reshape(*filters.shape[:2], *spec.dense.kernel), None, x)


def _pad_and_stride(spec: TTSpec, x: Tensor) -> Tensor:
    """What a window of one tap does to positions: padding and stride, each channel by itself."""
    if not spec.moves:
        return x
    z = _apply_window(spec, x.new_ones(1, 1, 1), x.flatten(0, 1).unsqueeze(1))
    return z.reshape(*x.shape[:2], *z.shape[2:])


def _pad_channels(x: Tensor, channels: int) -> Tensor:
    """``x`` (S x ...) with zeros for the channels that only the modes have."""
    missing = channels - x.shape[0]
    return x if not missing else torch.cat((x, x.new_zeros(missing, *x.shape[1:])))
