"""Tensors cut into parts along their axes, and put together from parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, operator


@operator("Concat")
def concat(facts: NodeFacts) -> Operation:
    """Tensors one behind the other along an axis, which is 1 where a file of the first version names none."""
    axis = facts.attributes.get("axis", 1)
    return lambda *tensors: torch.cat(tensors, axis)


@operator("Split")
def split(facts: NodeFacts) -> Operation:
    """Parts along an axis, of the sizes that the node gives, or equal but the last, which may be smaller."""
    axis, fixed = facts.attributes.get("axis", 0), facts.attributes.get("split")

    def run(x: Tensor, sizes_input: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = fixed if sizes_input is None else sizes_input.tolist()
        return torch.split(x, sizes or equal_parts(x.shape[axis], facts.outputs), axis)

    return run


def equal_parts(size: int, parts: int) -> list[int]:
    """The sizes of so many parts, all the same but the last ones where that does not go up."""
    part = -(-size // parts)
    return [max(0, min(part, size - part * index)) for index in range(parts)]


@operator("Slice")
def slice_along_axes(facts: NodeFacts) -> Operation:
    """Every so many elements between two places along axes: attributes before version 10, inputs since."""
    if facts.opset < 10:
        fixed = facts.attributes
        return lambda x: sliced(x, fixed["starts"], fixed["ends"], fixed.get("axes"), None)

    def run(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        named = None if axes is None else axes.tolist()
        return sliced(x, starts.tolist(), ends.tolist(), named, None if steps is None else steps.tolist())

    return run


def sliced(
    x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None, steps: Sequence[int] | None
) -> Tensor:
    """The elements that ``x[start:end:step]`` of numpy takes along each axis, where torch knows no negative step."""
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = number if axes is None else axes[number] % x.ndim
        step = 1 if steps is None else steps[number]
        places = range(x.shape[axis])[start:end:step]
        if not places:
            x = x.narrow(axis, 0, 0)
            continue
        forward = places if step > 0 else places[::-1]
        cut = slice(forward.start, forward[-1] + 1, forward.step)
        x = x[(slice(None),) * axis + (cut,)]
        if step < 0:
            x = x.flip(axis)
    return x
