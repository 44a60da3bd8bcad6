"""The shape of a tensor read, changed and grown, and blocks of pixels moved into channels and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, enter_plain, operator


def broadcast_shape(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The shape that two shapes have in common when axes of size 1 and missing leading ones grow."""
    rank = max(len(first), len(second))
    pairs = zip([1] * (rank - len(first)) + [*first], [1] * (rank - len(second)) + [*second], strict=True)
    return [b if a == 1 else a for a, b in pairs]


enter_plain(
    {
        "Identity": lambda x: x,
        "Size": lambda x: torch.tensor(x.numel(), device=x.device),
        "Expand": lambda x, shape: x.expand(broadcast_shape(x.shape, shape.tolist())),
    }
)


@operator("Shape")
def shape_of(facts: NodeFacts) -> Operation:
    """The sizes of the axes from ``start`` to before ``end``."""
    start, end = facts.attributes.get("start", 0), facts.attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


@operator("Reshape")
def reshape(facts: NodeFacts) -> Operation:
    """Another shape for the same elements: 0 keeps the size of that axis unless ``allowzero`` is 1, -1 is the rest."""
    fixed: Any = facts.attributes.get("shape")
    zero_is_a_size = facts.attributes.get("allowzero", 0)

    def run(x: Tensor, shape: Tensor | None = None) -> Tensor:
        sizes = list(fixed) if shape is None else shape.tolist()
        kept = [] if zero_is_a_size else [axis for axis, size in enumerate(sizes) if size == 0]
        if -1 in sizes:
            # Apart from the axes that are kept, so that it is known for no samples too.
            elements = math.prod(size for axis, size in enumerate(x.shape) if axis not in kept)
            known = -math.prod(size for axis, size in enumerate(sizes) if axis not in kept)
            sizes[sizes.index(-1)] = elements // known if known else 0
        return x.reshape([x.shape[axis] if axis in kept else size for axis, size in enumerate(sizes)])

    return run


@operator("Flatten")
def flatten(facts: NodeFacts) -> Operation:
    """A matrix: the axes before ``axis`` are its rows, the others its columns."""
    axis = facts.attributes.get("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze")
def squeeze(facts: NodeFacts) -> Operation:
    """The tensor without the axes that the node names, or without all of size 1."""
    fixed: Any = facts.attributes.get("axes")

    def run(x: Tensor, axes_input: Tensor | None = None) -> Tensor:
        axes = fixed if axes_input is None else axes_input.tolist()
        if axes is None:
            return x.squeeze()
        return x.squeeze(tuple(axes))

    return run


@operator("Unsqueeze")
def unsqueeze(facts: NodeFacts) -> Operation:
    """The tensor with axes of size 1, at places counted in the result."""
    fixed: Any = facts.attributes.get("axes")

    def run(x: Tensor, axes_input: Tensor | None = None) -> Tensor:
        axes = fixed if axes_input is None else axes_input.reshape(-1).tolist()
        for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Transpose")
def transpose(facts: NodeFacts) -> Operation:
    """The axes in another order, in reverse where the node names none."""
    order = facts.attributes.get("perm")
    return lambda x: x.permute(*(reversed(range(x.ndim)) if order is None else order))


@operator("Tile")
def tile(facts: NodeFacts) -> Operation:
    """The tensor repeated along each of its axes."""
    if facts.opset < 6:
        raise NotInTorchError("before version 6 Tile repeats along one axis, which is an input")
    return lambda x, repeats: x.repeat(repeats.tolist())


@operator("DepthToSpace")
def depth_to_space(facts: NodeFacts) -> Operation:
    """Channels moved into blocks of rows and columns."""
    block, mode = facts.attributes["blocksize"], facts.attributes.get("mode", "DCR")

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        depth = c // block**2
        if mode == "CRD":
            return (
                x.reshape(n, depth, block, block, h, w)
                .permute(0, 1, 4, 2, 5, 3)
                .reshape(n, depth, h * block, w * block)
            )
        blocks = x.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, depth, h * block, w * block)

    return run


@operator("SpaceToDepth")
def space_to_depth(facts: NodeFacts) -> Operation:
    """Blocks of rows and columns moved into channels."""
    block = facts.attributes["blocksize"]
    # The axes of the blocks are (n, c, h, block, w, block).
    order = (0, 1, 3, 5, 2, 4) if facts.attributes.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // block, block, w // block, block)
        return blocks.permute(order).reshape(n, c * block**2, h // block, w // block)

    return run


@operator("CenterCropPad")
def center_crop_pad(facts: NodeFacts) -> Operation:
    """Axes brought to given sizes, by cutting the same from both ends or by zeros at both."""
    fixed: Any = facts.attributes.get("axes")

    def run(x: Tensor, shape: Tensor) -> Tensor:
        axes = range(x.ndim) if fixed is None else fixed
        for axis, size in zip(axes, shape.tolist(), strict=True):
            missing = size - x.shape[axis]
            if missing < 0:
                x = x.narrow(axis, -missing // 2, size)
            if missing > 0:
                ends = (missing // 2, missing - missing // 2)
                x = F.pad(x.movedim(axis, -1), ends).movedim(-1, axis)
        return x

    return run


@operator("Col2Im")
def columns_to_image(facts: NodeFacts) -> Operation:
    """The sum of blocks at their places in an image of any number of axes."""
    strides, dilations = facts.attributes.get("strides"), facts.attributes.get("dilations")
    pads = facts.attributes.get("pads")

    def run(x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
        sizes, block = image_shape.tolist(), block_shape.tolist()
        n, axes, volume = x.shape[0], len(sizes), math.prod(block)
        step, spread, pad = strides or [1] * axes, dilations or [1] * axes, pads or [0] * 2 * axes
        padded = [size + pad[axis] + pad[axis + axes] for axis, size in enumerate(sizes)]
        place = torch.zeros(1, 1, dtype=torch.int64, device=x.device)  # of each block element and block: (volume, L)
        for axis in range(axes):
            within = torch.arange(block[axis], device=x.device) * spread[axis]
            count = (padded[axis] - spread[axis] * (block[axis] - 1) - 1) // step[axis] + 1
            start = torch.arange(count, device=x.device) * step[axis]
            here = within[:, None] + start  # (block of this axis, blocks along this axis)
            place = (place[:, None, :, None] * padded[axis] + here[None, :, None, :]).flatten(2).flatten(0, 1)
        columns = x.reshape(n, -1, volume * x.shape[-1])
        flat = columns.new_zeros(n, columns.shape[1], math.prod(padded)).index_add(2, place.flatten(), columns)
        image = flat.reshape(n, -1, *padded)
        for axis, size in enumerate(sizes):
            image = image.narrow(axis + 2, pad[axis], size)
        return image

    return run
