"""What a layer multiplies its weight by: patches under its window, at some of its output positions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from polyadic.schema import ConvSpec

CHUNK = 1 << 24  # numbers in one batch of patches: 64 MiB


def patch_rows(x: Tensor, t: Tensor, spec: ConvSpec, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches (n x S D^2, the taps of one channel together) and targets (n x T) at ``positions``, in float32 at least.

    Every patch, multiplied by the weight as a T x S D^2 matrix, gives the layer's output there without its bias.

    Args:
        x: the layer's input, (N, S, ...) or, for a Linear, (..., S).
        t: what to answer, shaped as the layer's output.
        spec: its geometry, of one group.
        positions: numbers of output positions, counted through samples and then rows, as in ``t`` without channels.
    """
    S, taps = spec.in_channels, spec.taps
    targets = _rows(t, spec)
    padded, first, offsets = _grid(x, t, spec, positions)
    for start in range(0, len(positions), max(CHUNK // (S * taps), 1)):
        part = slice(start, start + max(CHUNK // (S * taps), 1))
        rows = first[part]
        # one tap at a time, S numbers in a row each; then S x D^2 as in the weight
        y = torch.stack([padded[rows + offset] for offset in offsets], 2)
        yield _in_float32_at_least(y.flatten(1)), _in_float32_at_least(targets[positions[part]])


def some_positions(t: Tensor, spec: ConvSpec, most: int, seed: int) -> Tensor:
    """At most ``most`` output positions, drawn without repetition."""
    count = _rows(t, spec).shape[0]
    if count <= most:
        return torch.arange(count, device=t.device)
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]
    return drawn.sort().values.to(t.device)


def _in_float32_at_least(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _rows(x: Tensor, spec: ConvSpec) -> Tensor:
    """Positions x channels."""
    rows = x.movedim(1, -1) if spec.axes else x
    return rows.reshape(-1, rows.shape[-1])


def _grid(x: Tensor, t: Tensor, spec: ConvSpec, positions: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Rows of the padded input, the row of the first tap of every position, and how far the other taps lie from it."""
    if not spec.axes:
        return _rows(x, spec), positions, [0]
    padded = _pad(x, spec)
    sizes, outputs = padded.shape[2:], t.shape[2:]
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(spec.axes)]
    rest, first = positions, torch.zeros_like(positions)
    for axis in reversed(range(spec.axes)):
        first = first + rest % outputs[axis] * spec.stride[axis] * steps[axis]
        rest = rest // outputs[axis]
    offsets = [0]
    for window, dilation, step in zip(spec.kernel, spec.dilation, steps, strict=True):
        offsets = [offset + k * dilation * step for offset in offsets for k in range(window)]
    return _rows(padded, spec), first + rest * math.prod(sizes), offsets


def _pad(x: Tensor, spec: ConvSpec) -> Tensor:
    if not any(spec.pads):
        return x
    return F.pad(x, spec.pads, mode="constant" if spec.padding_mode == "zeros" else spec.padding_mode)
