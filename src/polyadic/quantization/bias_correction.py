"""Biases that give every layer of a quantized graph the mean outputs of the float graph (Nagel et al., ICCV 2019).

Rounded weights err by a fixed amount, so a channel's output is off in the mean wherever its inputs have a mean, as they
do behind a ReLU. With ``y`` the output of a channel in float and ``y'`` the one that the quantized graph computes,

    b' = b + mean(y) - mean(y')      over images and positions

takes that away and leaves the noise about it. Layers are corrected in the order of the graph, each with all layers
before it rounded and corrected, so that what reaches it through ReLUs and sums is counted once.

Layers without a bias stay as they are, which costs nothing in a chain: behind a stage there is no non-linearity, so the
mean of its error arrives at the last stage, where the bias of the chain is (but for the border that padding adds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
_BIAS = 2  # which input of a layer it is


def correct_biases(rounded: bytes, graph: bytes, batches: Sequence[Tensor]) -> bytes:
    """``rounded`` with other numbers for its biases, in the format that they have there.

    A bias that several layers share stays as it is.

    Args:
        rounded: serialised ONNX model in QDQ form; biases are int32 behind a ``DequantizeLinear``, or float32.
        graph: the float model that it was made from; layers have the same names.
        batches: inputs (n, ...) of both, training images as a rule.
    """
    import onnx

    source, target = onnx.load_from_string(graph), onnx.load_from_string(rounded)
    biases = _biases(target.graph)
    outputs = {node.name: node.output[0] for node in source.graph.node if node.name in biases}
    if not outputs:
        return rounded
    wanted = dict(zip(outputs, _means(source, list(outputs.values()), batches), strict=True))
    for node in target.graph.node:
        if node.name in wanted:
            (found,) = _means(_up_to(target, node.output[0]), [node.output[0]], batches)
            biases[node.name].shift(wanted[node.name] - found)
    corrected: bytes = target.SerializeToString()
    return corrected


class _Bias:
    """The numbers of one bias inside a graph."""

    def __init__(self, tensor: Any, scale: Any | None) -> None:
        """``tensor`` and ``scale`` are initialisers; without a scale the tensor is in float."""
        self._tensor = tensor
        self._scale = scale

    def shift(self, amount: np.ndarray[Any, Any]) -> None:
        """Add ``amount`` (channels), to the nearest step."""
        from onnx import numpy_helper

        values = numpy_helper.to_array(self._tensor)
        if self._scale is not None:
            amount = np.rint(amount / numpy_helper.to_array(self._scale))
        limits = np.iinfo(values.dtype) if self._scale is not None else np.finfo(values.dtype)
        moved = (values + amount).clip(limits.min, limits.max).astype(values.dtype)
        self._tensor.CopyFrom(numpy_helper.from_array(moved, self._tensor.name))


def _biases(graph: Any) -> Mapping[str, _Bias]:
    """By the name of the layer that alone adds it."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    steps = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in graph.node:
        if node.op_type not in _LAYERS or len(node.input) <= _BIAS or uses[node.input[_BIAS]] > 1:
            continue
        name = node.input[_BIAS]
        step = steps.get(name)
        if step is None and name in tensors:
            found[node.name] = _Bias(tensors[name], None)
        elif step is not None and all(each in tensors for each in step.input) and uses[step.input[0]] == 1:
            found[node.name] = _Bias(tensors[step.input[0]], tensors[step.input[1]])
    return found


def _up_to(model: Any, output: str) -> Any:
    """The part of a model that one of its tensors depends on."""
    needed, kept = {output}, []
    for node in reversed(model.graph.node):  # in the order of their computation
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    part = type(model)()
    part.CopyFrom(model)
    del part.graph.node[:]
    part.graph.node.extend(reversed(kept))
    del part.graph.output[:]
    constants = [tensor for tensor in part.graph.initializer if tensor.name in needed]
    del part.graph.initializer[:]
    part.graph.initializer.extend(constants)
    return part


def _means(model: Any, outputs: Sequence[str], batches: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
    """(channels) for each of the named tensors (n, channels, ...) of a model, over all samples and positions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    graph = _averaging(model, outputs).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    means = [session.run(None, {entry.name: batch.numpy()}) for batch in batches]
    weights = [len(batch) for batch in batches]
    return [np.average([np.float64(each[place]) for each in means], 0, weights) for place in range(len(outputs))]


def _averaging(model: Any, outputs: Sequence[str]) -> Any:
    """The model with means of channels as its outputs: whole activations of all layers would fill the memory."""
    from onnx import TensorProto, helper, numpy_helper

    watched = type(model)()
    watched.CopyFrom(model)
    graph = watched.graph
    del graph.output[:]
    constants = {"flat": np.array([0, 0, -1]), "all_but_channels": np.array([0, 2])}
    graph.initializer.extend(numpy_helper.from_array(value, f"mean/{name}") for name, value in constants.items())
    for name in outputs:
        graph.node.append(helper.make_node("Reshape", [name, "mean/flat"], [f"flat/{name}"]))
        averaged = [f"flat/{name}", "mean/all_but_channels"]
        graph.node.append(helper.make_node("ReduceMean", averaged, [f"mean/{name}"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"mean/{name}", TensorProto.FLOAT, None))
    return watched
