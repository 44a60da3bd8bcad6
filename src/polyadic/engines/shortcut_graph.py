"""Shortcuts without parameters in a graph: every other pixel, then channels of zeros, written as one convolution.

Option A of residual networks (He et al., "Deep residual learning for image recognition", section 3.3) subsamples an
image and pads its channels with zeros. Engines that lay channels out in blocks can do neither there: they reorder the
image, and from then on the sum that it goes into, and all later sums of that stage, stay in the plain layout, with
activations apart from the convolutions before them. As a 1 x 1 convolution with that stride, of ones and
zeros, the shortcut stays in blocks, sums and activations join the convolutions, and the numbers are the same ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def shortcuts_as_convolutions(model: Any) -> None:
    """Rewrite such shortcuts of ``model``, an ``onnx_ir.Model``, in place; everything else is left alone."""
    for pad in [node for node in model.graph if node.op_type == "Pad"]:
        before = _zeros_before(pad)
        slices = _subsampling(pad.inputs[0])
        image = slices[-1].inputs[0] if slices else None
        if before is not None and image is not None and _is_image(image, pad.outputs[0]):
            steps = [(_single(node, 3), _single(node, 4) or 1) for node in slices]
            axes = range(2, len(image.shape))
            strides = [math.prod(step for sliced, step in steps if sliced == axis) for axis in axes]
            if max(strides) > 1:
                _replace(model.graph, pad, slices, _convolution(model.graph, pad, image, before, strides))


def _zeros_before(pad: Any) -> int | None:
    """How many channels of zeros stand before the image's own; None where it is padded otherwise."""
    mode = pad.attributes.get("mode")
    given = [_constant(value) for value in pad.inputs[2:] if value is not None]
    widths = _constant(pad.inputs[1])
    if (mode is not None and mode.as_string() != "constant") or given not in ([], [[0.0]]) or widths is None:
        return None
    half = len(widths) // 2
    others = [width for at, width in enumerate(widths) if at % half != 1]
    return widths[1] if not any(others) and min(widths) >= 0 and half > 2 else None


def _subsampling(value: Any) -> list[Any]:
    """The nodes that leave pixels out and that nobody else sees, last first."""
    found = []
    while (node := value.producer()) is not None and node.op_type == "Slice":
        if len(value.uses()) != 1 or value.is_graph_output():
            break
        start, end, axis, step = (_single(node, position) for position in range(1, 5))
        size = value.shape is not None and node.inputs[0].shape is not None
        if not size or start != 0 or end is None or axis is None or step is None or axis < 2 or step < 1:
            break
        extent = node.inputs[0].shape[axis]
        if not isinstance(extent, int) or end < extent:
            break
        found.append(node)
        value = node.inputs[0]
    return found


def _is_image(image: Any, padded: Any) -> bool:
    """Whether both are batches of float images whose channels are known."""
    shapes = [image.shape, padded.shape]
    return all(shape is not None and len(shape) in (3, 4, 5) and isinstance(shape[1], int) for shape in shapes) and (
        image.dtype is not None and image.dtype.name == "FLOAT"
    )


def _single(node: Any, position: int) -> int | None:
    """The one integer that stands in an input of ``node``; None where there is another number of them."""
    numbers = _constant(node.inputs[position]) if position < len(node.inputs) else None
    return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _constant(value: Any) -> list[Any] | None:
    import onnx_ir

    tensor = None if value is None else onnx_ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy().reshape(-1).tolist()


def _convolution(graph: Any, pad: Any, image: Any, before: int, strides: list[int]) -> Any:
    """The node that does all of it; its kernel becomes one of the graph's constants."""
    import onnx_ir

    old, channels, dimensions = pad.outputs[0], image.shape[1], len(strides)
    kernel = np.zeros((old.shape[1], channels, *(1,) * dimensions), dtype=np.float32)
    kernel[np.arange(before, before + channels), np.arange(channels)] = 1.0
    held = onnx_ir.Value(name=f"{old.name}_kernel", const_value=onnx_ir.tensor(kernel))
    held.shape, held.dtype = onnx_ir.Shape(kernel.shape), image.dtype
    graph.register_initializer(held)
    return onnx_ir.node(
        "Conv", [image, held], {"kernel_shape": [1] * dimensions, "strides": strides}, name=f"{pad.name}_convolution"
    )


def _replace(graph: Any, pad: Any, slices: list[Any], convolution: Any) -> None:
    import onnx_ir

    old, new = pad.outputs[0], convolution.outputs[0]
    read = [value for node in (pad, *slices) for value in node.inputs if value is not None]
    onnx_ir.convenience.replace_nodes_and_values(graph, pad, [pad, *slices], [convolution], [old], [new])
    for value in read:
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name, None)
