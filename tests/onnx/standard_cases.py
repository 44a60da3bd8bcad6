"""Single nodes as torch computes them, and the examples with numbers that the onnx package ships for every operator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper
from torch import Tensor

from polyadic.onnx.operators import NodeFacts, Operation, operation_of

Array = NDArray[Any]

NUMBERS = ("float32", "uint8", "int8", "int16", "int32", "int64", "bool", "float16", "float64", "bfloat16")
"""The number formats that torch computes with, by their names in numpy."""


@dataclass(frozen=True)
class StandardCase:
    """One example of the standard: a node, the version it is written for, what goes in and what is to come out."""

    name: str
    node: NodeProto
    opset: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    def unreadable(self) -> str | None:
        """The kind of the first value that torch does not compute with."""
        for value in (*self.inputs.values(), *self.outputs.values()):
            if not isinstance(value, np.ndarray | np.generic):
                return type(value).__name__
            if value.dtype.name not in NUMBERS:
                return str(value.dtype.name)
        return None


def standard_cases() -> list[StandardCase]:
    """All examples of the standard that are one node of ONNX's own domain."""
    with warnings.catch_warnings():  # the examples overflow and divide by zero on purpose while they are made
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    cases = []
    for case in collected:
        if case.model is None or len(case.model.graph.node) != 1 or case.model.graph.node[0].domain:
            continue
        graph = case.model.graph
        opset = next(entry.version for entry in case.model.opset_import if not entry.domain)
        for inputs, outputs in case.data_sets:
            given = {value.name: as_array(example) for value, example in zip(graph.input, inputs, strict=True)}
            expected = {value.name: as_array(example) for value, example in zip(graph.output, outputs, strict=True)}
            cases.append(StandardCase(case.name, graph.node[0], opset, given, expected))
    return cases


def as_array(example: Any) -> Any:
    """The array of a tensor in ONNX's own form; what is something else is left as it is."""
    return numpy_helper.to_array(example) if isinstance(example, onnx.TensorProto) else example


def to_torch(value: Array | np.generic) -> Tensor:
    """A tensor with the numbers of an array, in the same format."""
    array = np.array(value)  # a copy that is writable, which torch asks for
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def facts_of(node: NodeProto, opset: int) -> NodeFacts:
    """What a node says of itself, as the operators read it."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, onnx.TensorProto):
            return to_torch(numpy_helper.to_array(value))
        return value if isinstance(value, int | float) or not isinstance(value, Sequence) else [plain(v) for v in value]

    attributes = {entry.name: plain(onnx.helper.get_attribute_value(entry)) for entry in node.attribute}
    return NodeFacts(node.op_type, opset, attributes, tuple(bool(name) for name in node.input), len(node.output))


def operation_of_node(node: NodeProto, opset: int) -> Operation:
    """The torch function of a node."""
    return operation_of(facts_of(node, opset))


def computed(operation: Operation, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """All outputs of an operation."""
    outputs = operation(*inputs)
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def compute(node: NodeProto, opset: int, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """The outputs that the node names, computed by torch."""
    operation = operation_of_node(node, opset)
    given = [to_torch(inputs[name]) if name else None for name in node.input]
    outputs = computed(operation, given)
    assert len(outputs) == len(node.output)
    return {name: value for name, value in zip(node.output, outputs, strict=True) if name}


def assert_same(actual: Tensor, expected: Array | np.generic, *, decimals: int | None = None) -> None:
    """Fail unless format and shape are the same, and the numbers up to rounding: of their format or to decimals."""
    wanted = to_torch(expected)
    assert actual.shape == wanted.shape, f"shape {tuple(actual.shape)} instead of {tuple(wanted.shape)}"
    assert actual.dtype == wanted.dtype, f"{actual.dtype} instead of {wanted.dtype}"
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(wanted.dtype, 1e-5)
    torch.testing.assert_close(
        actual, wanted, rtol=tolerance, atol=0.1 * tolerance if decimals is None else 2 * 0.1**decimals, equal_nan=True
    )
