"""Interpolation along one axis: where every new element lies among the old ones, and how much each of these counts.

A new element y at the coordinate x of the old axis is y = sum_j w_j a_(p_j): the elements a at a few places p_j around
x, which count as much as the weights w_j say. Places beyond the ends stand for the elements at the ends.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rules:
    """How a node interpolates, in the words of the operator Resize.

    Attributes:
        mode: nearest, linear or cubic.
        coordinates: how a new place becomes a coordinate of the old axis.
        nearest: how a coordinate becomes a place; "simple" is that of version 10.
        cubic_a: the number that the cubic weights depend on.
        exclude_outside: whether places beyond the ends count for nothing.
        antialias: whether more elements count where the new axis is shorter.
        extrapolation: what stands outside of a region that is cut out beyond the ends.
    """

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class AxisChange:
    """What becomes of one axis.

    Attributes:
        size: elements before.
        resized: elements after.
        scale: the ratio that was asked for, which need not be that of the two.
        region: the part of the axis that is taken, where the axis is one long; only for tf_crop_and_resize.
    """

    size: int
    resized: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)

    @property
    def changes(self) -> bool:
        """Whether the axis does not stay as it is."""
        return self.size != self.resized or self.scale != 1.0 or self.region != (0.0, 1.0)


def coordinates(change: AxisChange, rules: Rules) -> Tensor:
    """The coordinate of every new element on the old axis."""
    # A coordinate between two places is told from its neighbours by rounding errors. Those of ONNX Runtime, which
    # computes in single precision, are met where they decide what the nearest place is.
    dtype = torch.float32 if rules.mode == "nearest" else torch.float64
    new = torch.arange(change.resized, dtype=dtype)
    scale = torch.tensor(change.scale, dtype=dtype)
    last, new_last = change.size - 1, change.resized - 1
    match rules.coordinates:
        case "asymmetric":
            return new / scale
        case "align_corners":
            return new * last / new_last if new_last else torch.zeros_like(new)
        case "pytorch_half_pixel" if not new_last:
            return torch.zeros_like(new)
        case "half_pixel_symmetric":
            shift = change.size / 2 * (1 - change.resized / (change.scale * change.size))
            return shift + (new + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            start, end = change.region
            if not new_last:
                return torch.full_like(new, 0.5 * (start + end) * last)
            return start * last + new * (end - start) * last / new_last
        case _:
            return (new + 0.5) / scale - 0.5


def nearest_places(x: Tensor, change: AxisChange, rules: Rules) -> Tensor:
    """The place nearest to every coordinate."""
    match rules.nearest:
        case "floor":
            places = x.floor()
        case "ceil":
            places = x.ceil()
        case "round_prefer_ceil":
            places = (x + 0.5).floor()
        case "simple":
            places = x.ceil() if change.scale < 1 else x.floor()
        case _:
            places = (x - 0.5).ceil()
    return places.long().clamp(0, change.size - 1)


def places_and_weights(x: Tensor, change: AxisChange, rules: Rules) -> tuple[Tensor, Tensor]:
    """The places around every coordinate, (new, n), and their weights."""
    # Where the new axis is shorter, a filter against aliasing is stretched by 1 / scale.
    shrink = min(change.scale, 1.0) if rules.antialias else 1.0
    support = 1 if rules.mode == "linear" else 2
    first = math.floor(-support / shrink) + 1
    places = x.floor()[:, None] + torch.arange(first, 2 - first)
    distances = ((places - x[:, None]) * shrink).abs()
    weights = (1 - distances).clamp(min=0) if rules.mode == "linear" else cubic(distances, rules.cubic_a)
    if rules.exclude_outside:
        weights = torch.where((places < 0) | (places > change.size - 1), 0.0, weights)
    if rules.exclude_outside or shrink < 1:
        weights = weights / weights.sum(1, keepdim=True)
    return places.long().clamp(0, change.size - 1), weights


def cubic(distances: Tensor, a: float) -> Tensor:
    """The weight of an element at a distance, by Keys 1981: a cubic up to 1, another one up to 2, then 0."""
    d = distances
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))


def interpolate_axis(tensor: Tensor, axis: int, change: AxisChange, rules: Rules) -> Tensor:
    """The tensor with one axis interpolated."""
    x = coordinates(change, rules)
    if rules.mode == "nearest":
        result = tensor.index_select(axis, nearest_places(x, change, rules).to(tensor.device))
    else:
        places, weights = places_and_weights(x, change, rules)
        places, weights = places.to(tensor.device), weights.to(tensor.device, tensor.dtype)
        behind = [1] * (tensor.ndim - axis - 1)
        terms = (
            tensor.index_select(axis, places[:, j]) * weights[:, j].reshape(-1, *behind) for j in range(places.shape[1])
        )
        result = functools.reduce(torch.add, terms)
    if rules.coordinates != "tf_crop_and_resize":
        return result
    outside = ((x < 0) | (x > change.size - 1)).to(tensor.device).reshape(-1, *[1] * (tensor.ndim - axis - 1))
    return torch.where(outside, torch.full_like(result, rules.extrapolation), result)
