"""Networks as ONNX graphs: a module as torch's exporter writes it, and a chain of plain layers from its integers.

A graph from integers needs no module and no trace: it is there in milliseconds, with random weights, to be timed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyadic.engines.engine import silence
from polyadic.engines.shortcut_graph import shortcuts_as_convolutions
from polyadic.errors import EngineError, install_hint
from polyadic.schema import ConvSpec, Stage

OPSET = 18
EXTRA = install_hint("onnx")
BATCH = "batch"
"""What the free first dimension is called."""

_IR_VERSION = 10  # that of torch's exporter for the same set of operators


def onnx_bytes(model: nn.Module, example: tuple[Tensor, ...], *, dynamic_batch: bool = False) -> bytes:
    """``model`` in evaluation mode as a serialised ONNX graph, written by torch's own exporter.

    Args:
        model: any module that ``torch.export`` takes; it is left as it was.
        example: its inputs, batch first; inputs are named ``input`` or ``input_0``, ``input_1``, ...
        dynamic_batch: leave the first dimension of all inputs free; the example then holds two samples or more.

    Raises:
        EngineError: the packages of the extra ``onnx`` are not installed.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it and says so less clearly)
    except ImportError as error:
        raise EngineError(f"an ONNX graph needs the package onnxscript: {EXTRA}") from error
    network = copy.deepcopy(model).eval().cpu().float()
    inputs = tuple(tensor.detach().cpu().contiguous() for tensor in example)
    shapes = tuple({0: torch.export.Dim(BATCH)} for _ in inputs) if dynamic_batch else None
    with silence("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=input_names(len(inputs)),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EngineError("torch's exporter returned no ONNX graph")
    shortcuts_as_convolutions(program.model)
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def input_names(count: int) -> Sequence[str]:
    """What inputs are called: ``input``, or numbered where there are several."""
    return ["input"] if count == 1 else [f"input_{n}" for n in range(count)]


def is_writable(stages: Sequence[Stage]) -> bool:
    """Whether :func:`chain_graph` writes such a chain: plain layers, padded with zeros by numbers."""
    return all(isinstance(stage, ConvSpec) and stage.padding_mode == "zeros" for stage in stages)


def chain_graph(
    chains: Sequence[tuple[Stage, ...]], batch: int, input_size: tuple[int, ...], *, between: bool = True, seed: int = 0
) -> bytes:
    """Chains one after the other as a serialised graph with random weights.

    Args:
        chains: each takes what the one before it gives.
        batch: samples of a pass.
        input_size: spatial, of one sample; of fully connected layers the positions.
        between: a ReLU before and after each chain, as in most networks.
        seed: of the weights, which are of the scale 1 / sqrt(inputs), so that no number is denormal.

    Raises:
        EngineError: the package onnx is not installed, or a stage is none that :func:`is_writable` knows.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise EngineError(f"an ONNX graph needs the package onnx: {EXTRA}") from error
    random, name = np.random.default_rng(seed), "input"
    nodes: list[Any] = []
    weights: list[Any] = []

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def number(shape: tuple[int, ...], fan_in: int) -> str:
        array = random.standard_normal(shape, dtype=np.float32) / math.sqrt(fan_in)
        weights.append(numpy_helper.from_array(array, f"w{len(weights)}"))
        return str(weights[-1].name)

    first, size = chains[0][0], input_size
    for chain in chains:
        name = add("Relu", [name]) if between else name
        for stage in chain:
            if not isinstance(stage, ConvSpec) or stage.padding_mode != "zeros":
                raise EngineError(f"a chain is written as a graph where its stages are plain layers; got {stage}")
            name, size = _layer(add, number, stage, name, size), stage.output_size(size)
        name = add("Relu", [name]) if between else name
    last = chains[-1][-1]
    given, made = _shape(batch, first.in_channels, first, input_size), _shape(batch, last.out_channels, last, size)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, made)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    written: bytes = model.SerializeToString()
    return written


def input_shape(stages: Sequence[Stage], batch: int, input_size: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a chain takes: channels before the axes, or last where there are none."""
    return _shape(batch, stages[0].in_channels, stages[0], input_size)


def _shape(batch: int, channels: int, stage: Stage, size: tuple[int, ...]) -> tuple[int, ...]:
    return (batch, channels, *size) if stage.axes else (batch, *size, channels)


def _layer(add: Any, number: Any, spec: ConvSpec, name: str, size: tuple[int, ...]) -> str:
    """The nodes of one layer; returns the name of its output."""
    S, T = spec.in_channels, spec.out_channels
    fan_in = math.prod(spec.weight_shape[1:])
    bias = [number((T,), T)] if spec.bias else []
    if not spec.kernel:
        if not size:
            return str(add("Gemm", [name, number((T, S), fan_in), *bias], transB=1))
        product = add("MatMul", [name, number((S, T), fan_in)])
        return str(add("Add", [product, *bias]) if bias else product)
    before, after = spec.pads[0::2][::-1], spec.pads[1::2][::-1]  # these count from the last axis, ONNX from the first
    attributes: dict[str, Any] = {
        "kernel_shape": list(spec.kernel),
        "strides": list(spec.stride),
        "dilations": list(spec.dilation),
        "pads": [*before, *after],
        "group": spec.groups,
    }
    if spec.transposed:
        weight = number((S, T // spec.groups, *spec.kernel), fan_in)
        return str(add("ConvTranspose", [name, weight, *bias], output_padding=list(spec.output_padding), **attributes))
    return str(add("Conv", [name, number(spec.weight_shape, fan_in), *bias], **attributes))
