"""Multiply-accumulates of the convolutions and matrix products of an ONNX graph, by kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def macs_by_kind(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, int]:
    """MACs of one run, by kind: "depthwise", "1 x 1", "3 x 3", "transposed", "product" and so on.

    Shapes are those that a run shows. Nodes within If and Loop are not counted.
    """
    shapes, macs = _shapes(model, feeds), dict[str, int]()
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            kind, count = _convolution(node, shapes)
        elif node.op_type in COUNTED:
            kind, count = "product", _product(node, shapes)
        else:
            continue
        macs[kind] = macs.get(kind, 0) + count
    return macs


def _shapes(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, tuple[int, ...]]:
    """Of what the counted nodes take and give."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {name: value.shape for name, value in feeds.items()}
    counted = [node for node in model.graph.node if node.op_type in COUNTED]
    wanted = dict.fromkeys(name for node in counted for name in (*node.input[:2], *node.output) if name not in shapes)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {value.name: feeds[value.name] for value in session.get_inputs()}
    answers = session.run(list(wanted), given)
    return shapes | {name: answer.shape for name, answer in zip(wanted, answers, strict=True)}


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    kernel = shapes[node.input[1]]
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    # a convolution's output position meets the whole kernel, a transposed one's input position does
    batch, _, *positions = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
    count = batch * math.prod(positions) * math.prod(kernel)
    if node.op_type == "ConvTranspose":
        return "transposed", count
    if groups > 1:
        return "depthwise" if kernel[1] == 1 else "grouped", count
    return " x ".join(str(side) for side in kernel[2:]), count


def _product(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    rows = shapes[node.input[0]]
    is_transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(shapes[node.output[0]]) * (rows[0] if is_transposed else rows[-1])
