"""Poolings: the largest, the mean or the norm of windows, or of all that a channel holds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.sliding import Windows, check_windows, windows_over
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

MAX_POOLS: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def window_counts(facts: NodeFacts, sizes: Sequence[int], windows: Windows) -> list[int]:
    """How many windows there are along every axis; none of them starts in the padding behind."""
    ceil = _ceil(facts)
    counts = []
    for n, before, after, reach, stride in zip(
        sizes, windows.before, windows.after, windows.reach, windows.strides, strict=True
    ):
        room = n + before + after - reach
        count = (-(-room // stride) if ceil else room // stride) + 1
        counts.append(count - 1 if ceil and (count - 1) * stride >= n + before else count)
    return counts


def padded_to(x: Tensor, windows: Windows, counts: Sequence[int], value: float) -> Tensor:
    """The tensor padded with a value, or cropped behind, so that the windows end where it ends."""
    pads = []
    for n, before, reach, stride, count in zip(
        x.shape[2:], windows.before, windows.reach, windows.strides, counts, strict=True
    ):
        pads.append((before, (count - 1) * stride + reach - n - before))
    return torch.constant_pad_nd(x, [pad for pair in reversed(pads) for pad in pair], value)


def over_windows(
    x: Tensor, windows: Windows, counts: Sequence[int], combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Combine the elements of every window of a padded tensor, an axis after the other."""
    for axis, (count, stride) in enumerate(zip(counts, windows.strides, strict=True), start=2):
        span = (count - 1) * stride + 1
        starts = (i * windows.dilations[axis - 2] for i in range(windows.kernel[axis - 2]))
        taken = [x.narrow(axis, start, span)[(slice(None),) * axis + (slice(None, None, stride),)] for start in starts]
        x = functools.reduce(combine, taken)
    return x


@operator("MaxPool")
def max_pool(facts: NodeFacts) -> Operation:
    """The largest element of every window and, where it is asked for, its place in the whole tensor."""
    check_windows(facts)
    if facts.outputs > 1 and facts.attributes.get("storage_order", 0):
        raise NotInTorchError("places of the largest elements counted along columns are not served")
    kernel = facts.attributes["kernel_shape"]

    def run(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        windows = windows_over(facts, x.shape[2:], kernel)
        if not x.is_floating_point() and facts.outputs == 1:  # torch pools floats only
            counts = window_counts(facts, x.shape[2:], windows)
            lowest = torch.iinfo(x.dtype).min
            return over_windows(padded_to(x, windows, counts, lowest), windows, counts, torch.maximum)
        if facts.outputs == 1:
            return _largest(facts, x, windows, with_places=False)[0]
        values, places = _largest(facts, x if x.is_floating_point() else x.double(), windows, with_places=True)
        offsets = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(x.shape[2:])
        return values.to(x.dtype), places + offsets.reshape(*x.shape[:2], *[1] * len(kernel))

    return run


def _largest(facts: NodeFacts, x: Tensor, windows: Windows, *, with_places: bool) -> tuple[Tensor, ...]:
    """The largest element of every window, and its place among the elements of its channel."""
    pool = MAX_POOLS[len(windows.kernel)]
    # torch pads by as much behind as in front, by half a window at most.
    if windows.symmetric and _half(windows):
        options = (windows.kernel, windows.strides, windows.before, windows.dilations, _ceil(facts), with_places)
        found = pool(x, *options)
        return found if with_places else (found,)
    padded = padded_to(x, windows, window_counts(facts, x.shape[2:], windows), -math.inf)
    found = pool(padded, windows.kernel, windows.strides, 0, windows.dilations, False, with_places)
    if not with_places:
        return (found,)
    return found[0], _without_padding(found[1], padded.shape[2:], x.shape[2:], windows.before)


def _half(windows: Windows) -> bool:
    return all(2 * pad <= k for pad, k in zip(windows.before, windows.kernel, strict=True))


def _ceil(facts: NodeFacts) -> bool:
    """Whether a window counts that ends behind the padding."""
    return bool(facts.attributes.get("ceil_mode", 0))


def _without_padding(places: Tensor, padded: Sequence[int], sizes: Sequence[int], before: Sequence[int]) -> Tensor:
    """Places in a padded channel as places in the channel itself."""
    result, step = torch.zeros_like(places), 1
    for wide, n, front in reversed(list(zip(padded, sizes, before, strict=True))):
        result = result + (places % wide - front) * step
        places, step = torch.div(places, wide, rounding_mode="floor"), step * n
    return result


@operator("AveragePool")
def average_pool(facts: NodeFacts) -> Operation:
    """The mean of every window, over its elements or over those that are not padding."""
    check_windows(facts)
    kernel, with_pads = facts.attributes["kernel_shape"], bool(facts.attributes.get("count_include_pad", 0))

    def run(x: Tensor) -> Tensor:
        windows = windows_over(facts, x.shape[2:], kernel)
        if windows.symmetric and _half(windows) and windows.kernel == windows.reach:
            pool = AVERAGE_POOLS[len(kernel)]
            return pool(x, windows.kernel, windows.strides, windows.before, _ceil(facts), with_pads)
        counts = window_counts(facts, x.shape[2:], windows)
        total = over_windows(padded_to(x, windows, counts, 0.0), windows, counts, torch.add)
        for axis in range(len(kernel)):
            members = _members(x.shape[2 + axis], windows, axis, counts[axis], with_pads=with_pads)
            total = total / torch.tensor(members, dtype=x.dtype, device=x.device).reshape(
                -1, *[1] * (len(kernel) - axis - 1)
            )
        return total

    return run


def _members(n: int, windows: Windows, axis: int, count: int, *, with_pads: bool) -> list[int]:
    """How many elements of every window count along an axis of ``n``, those in the padding only ``with_pads``."""
    before, after = windows.before[axis], windows.after[axis]
    lowest, end = (-before, n + after) if with_pads else (0, n)
    offsets = [i * windows.dilations[axis] - before for i in range(windows.kernel[axis])]
    starts = [window * windows.strides[axis] for window in range(count)]
    # A window of padding alone has no mean; it is then 0, as its sum.
    return [max(sum(lowest <= start + offset < end for offset in offsets), 1) for start in starts]


@operator("LpPool")
def lp_pool(facts: NodeFacts) -> Operation:
    """The p-norm of every window."""
    check_windows(facts)
    kernel, p = facts.attributes["kernel_shape"], facts.attributes.get("p", 2)

    def run(x: Tensor) -> Tensor:
        windows = windows_over(facts, x.shape[2:], kernel)
        counts = window_counts(facts, x.shape[2:], windows)
        powers = padded_to(x.abs().pow(p), windows, counts, 0.0)
        total = over_windows(powers, windows, counts, torch.add)
        # The slope of a root at 0 is infinite, and times that of the powers no number: windows of zeros have none.
        empty = total == 0
        return total.masked_fill(empty, 1.0).pow(1.0 / p).masked_fill(empty, 0.0)

    return run


def _whole_channels(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(facts: NodeFacts) -> Operation:
    """The mean of every channel."""
    return lambda x: x.mean(_whole_channels(x), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(facts: NodeFacts) -> Operation:
    """The largest element of every channel."""
    return lambda x: x.amax(_whole_channels(x), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(facts: NodeFacts) -> Operation:
    """The p-norm of every channel."""
    p = facts.attributes.get("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, _whole_channels(x), keepdim=True)


@operator("MaxUnpool")
def max_unpool(facts: NodeFacts) -> Operation:
    """The elements that a pooling took, put back to their places among zeros."""
    kernel = facts.attributes["kernel_shape"]
    axes = len(kernel)
    strides = facts.attributes.get("strides", [1] * axes)
    pads = facts.attributes.get("pads", [0] * 2 * axes)

    def run(x: Tensor, places: Tensor, output_shape: Tensor | None = None) -> Tensor:
        sizes = [
            (n - 1) * s - before - after + k
            for n, s, before, after, k in zip(x.shape[2:], strides, pads[:axes], pads[axes:], kernel, strict=True)
        ]
        # The places count the elements of the smallest tensor that the pooling can have come from.
        flat = torch.zeros(math.prod([*x.shape[:2], *sizes]), dtype=x.dtype, device=x.device)
        result = flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(*x.shape[:2], *sizes)
        if output_shape is None:
            return result
        missing = [wanted - n for wanted, n in zip(output_shape.tolist()[2:], sizes, strict=True)]
        return F.pad(result, [pad for more in reversed(missing) for pad in (0, more)])

    return run
