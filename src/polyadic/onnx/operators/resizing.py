"""Resize, in all its versions, and its forerunner Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.interpolation import AxisChange, Rules, coordinates, interpolate_axis, nearest_places
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@operator("Upsample")
def upsample(facts: NodeFacts) -> Operation:
    """Larger axes, by scales that are an attribute before version 9 and an input since."""
    rules = _old_rules(facts)
    if facts.opset >= 9:
        return lambda x, scales: resize(x, changes_by_scale(x.shape, scales.tolist(), range(x.ndim)), rules)
    factors = facts.attributes.get("scales")
    if factors is None:
        raise NotInTorchError("an Upsample without scales is not served")
    return lambda x: resize(x, changes_by_scale(x.shape, factors, range(x.ndim)), rules)


@operator("Resize")
def resize_operation(facts: NodeFacts) -> Operation:
    """Larger or smaller axes, by scales or by sizes."""
    if facts.opset < 11:
        old = _old_rules(facts)
        return lambda x, scales: resize(x, changes_by_scale(x.shape, scales.tolist(), range(x.ndim)), old)
    rules, attributes = _rules(facts), facts.attributes
    policy = attributes.get("keep_aspect_ratio_policy", "stretch")

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        axes = [axis % x.ndim for axis in attributes.get("axes", range(x.ndim))]
        if scales is not None and scales.numel():
            changes = changes_by_scale(x.shape, scales.tolist(), axes)
        elif sizes is not None:
            changes = changes_by_size(x.shape, sizes.tolist(), axes, policy)
        else:
            raise ValueError("a Resize has scales or sizes, and this one has neither")
        if rules.coordinates == "tf_crop_and_resize" and roi is not None:
            starts_ends = roi.tolist()
            for place, axis in enumerate(axes):
                region = (starts_ends[place], starts_ends[len(axes) + place])
                before = changes[axis]
                changes[axis] = AxisChange(before.size, before.resized, before.scale, region)
        return resize(x, changes, rules)

    return run


def _old_rules(facts: NodeFacts) -> Rules:
    mode = facts.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise NotInTorchError(f"{facts.operator} by '{mode}' is not served")
    return Rules(mode, "asymmetric", "simple")


def _rules(facts: NodeFacts) -> Rules:
    attributes = facts.attributes
    rules = Rules(
        attributes.get("mode", "nearest"),
        attributes.get("coordinate_transformation_mode", "half_pixel"),
        attributes.get("nearest_mode", "round_prefer_floor"),
        attributes.get("cubic_coeff_a", -0.75),
        bool(attributes.get("exclude_outside", 0)),
        bool(attributes.get("antialias", 0)),
        attributes.get("extrapolation_value", 0.0),
    )
    if rules.mode not in MODES or rules.coordinates not in COORDINATES or rules.nearest not in NEAREST:
        raise NotInTorchError(f"{rules} is not served")
    return rules


def changes_by_scale(shape: Sequence[int], scales: Sequence[float], axes: Sequence[int]) -> list[AxisChange]:
    """What becomes of every axis where some are scaled."""
    changes = [AxisChange(n, n, 1.0) for n in shape]
    # In single precision, as the scales themselves: a third of 3 is 1, not 0.99999999.
    lengths = torch.tensor(scales, dtype=torch.float32) * torch.tensor([shape[axis] for axis in axes])
    for axis, scale, length in zip(axes, scales, lengths.tolist(), strict=True):
        changes[axis] = AxisChange(shape[axis], math.floor(length), scale)
    return changes


def changes_by_size(shape: Sequence[int], sizes: Sequence[int], axes: Sequence[int], policy: str) -> list[AxisChange]:
    """What becomes of every axis where some are to have a size, or are to keep their ratio and fit in or around it."""
    changes = [AxisChange(n, n, 1.0) for n in shape]
    ratios = [size / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
    for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
        if policy == "stretch":
            changes[axis] = AxisChange(shape[axis], size, ratio)
        else:
            common = min(ratios) if policy == "not_larger" else max(ratios)
            changes[axis] = AxisChange(shape[axis], math.floor(common * shape[axis] + 0.5), common)
    return changes


def resize(x: Tensor, changes: Sequence[AxisChange], rules: Rules) -> Tensor:
    """The tensor with all its axes interpolated, by torch's own function where that does exactly the same."""
    axes = [axis for axis, change in enumerate(changes) if change.changes]
    if not axes:
        return x
    quick = _by_torch(x, changes, axes, rules)
    if quick is not None:
        return quick
    integers = not x.is_floating_point() and rules.mode != "nearest"
    result = x.float() if integers or x.dtype in (torch.float16, torch.bfloat16) else x
    for axis in axes:
        result = interpolate_axis(result, axis, changes[axis], rules)
    if integers:
        limits = torch.iinfo(x.dtype)
        result = result.round().clamp(limits.min, limits.max)
    return result.to(x.dtype)


def _by_torch(x: Tensor, changes: Sequence[AxisChange], axes: Sequence[int], rules: Rules) -> Tensor | None:
    """The result of torch's own function, or None where it does not do the same."""
    if axes[0] < 2 or not 3 <= x.ndim <= 5 or not x.is_floating_point() or rules.coordinates == "tf_crop_and_resize":
        return None
    size = [change.resized for change in changes[2:]]
    if rules.mode == "nearest":
        repeats = all(_repeats(change, rules) for change in changes[2:])
        return F.interpolate(x, size, mode="nearest") if repeats else None
    modes = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}
    mode = modes[rules.mode].get(x.ndim)
    plain = not rules.exclude_outside and not rules.antialias and (rules.mode == "linear" or rules.cubic_a == -0.75)
    if mode is None or not plain:
        return None
    changed = [changes[axis] for axis in axes]
    if rules.coordinates == "align_corners":
        return F.interpolate(x, size, mode=mode, align_corners=True)
    # torch takes the ratio of the sizes, and a single new element where the middle of the axis is.
    ratios = all(change.scale * change.size == change.resized for change in changed)
    halves = rules.coordinates.startswith("half_pixel") or (
        rules.coordinates == "pytorch_half_pixel" and all(change.resized > 1 for change in changed)
    )
    return F.interpolate(x, size, mode=mode, align_corners=False) if ratios and halves else None


def _repeats(change: AxisChange, rules: Rules) -> bool:
    """Whether the nearest places of an axis are every old element a whole number of times."""
    if not change.changes:
        return True
    if change.resized % change.size:
        return False
    places = nearest_places(coordinates(change, rules), change, rules)
    return torch.equal(places, torch.arange(change.resized) // (change.resized // change.size))
