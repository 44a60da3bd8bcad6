"""Forms of nodes that the examples of the standard do not show, as ONNX Runtime computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from standard_cases import Array, assert_same, compute

from polyadic.onnx.operators import NodeFacts, NotInTorchError, operation_of

X = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
ONE = X[:, :1]
NONE = np.zeros((0, 3, 4), np.float32)
SCALAR = np.array(-1.5, np.float32)
INTEGERS = np.arange(-12, 12).reshape(2, 3, 4)
BYTES = np.uint8(INTEGERS + 12)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def as_onnx_runtime(operator: str, opset: int, attributes: dict[str, Any], inputs: list[Array], outputs: int) -> None:
    """Fail unless torch and ONNX Runtime give the same outputs."""
    names = [f"input{number}" for number in range(len(inputs))]
    results = [f"output{number}" for number in range(outputs)]
    node = helper.make_node(operator, names, results, **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "one", values, [helper.make_empty_tensor_value_info(name) for name in results])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = dict(zip(names, inputs, strict=True))
    actual = compute(node, opset, given)
    for name, expected in zip(results, session.run(results, given), strict=True):
        assert_same(actual[name], expected)


OLD_FORMS: list[tuple[str, int, dict[str, Any], list[Array], int]] = [
    ("Clip", 10, {"min": -0.5, "max": 1.0}, [X], 1),
    ("Clip", 10, {"max": 1.0}, [X], 1),
    ("Clip", 10, {}, [X], 1),
    ("Slice", 9, {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 2]}, [X], 1),
    ("Slice", 9, {"starts": [0, 1], "ends": [2, -1]}, [X], 1),
    ("Unsqueeze", 12, {"axes": [0, 3]}, [X], 1),
    ("Squeeze", 12, {"axes": [1]}, [ONE], 1),
    ("Squeeze", 12, {}, [ONE], 1),
    ("Split", 12, {"axis": 2, "split": [1, 3]}, [X], 2),
    ("Split", 12, {"axis": 1}, [X], 3),
    ("ReduceSum", 12, {"axes": [0, 2], "keepdims": 0}, [X], 1),
    ("ReduceSum", 12, {}, [X], 1),
    ("ReduceMean", 17, {"axes": [-1]}, [X], 1),
    ("TopK", 9, {"k": 2, "axis": 1}, [X], 2),
    ("Hardmax", 12, {"axis": 1}, [X], 1),
    ("Scatter", 10, {"axis": 2}, [X, np.array([[[0, 1]]]), np.array([[[7, 8]]], np.float32)], 1),
    ("Dropout", 9, {"ratio": 0.5}, [X], 1),
]

EDGES: list[tuple[str, int, dict[str, Any], list[Array], int]] = [
    ("Div", 14, {}, [INTEGERS, np.array(5)], 1),
    ("Mod", 13, {}, [INTEGERS, np.array(-5)], 1),
    ("Mod", 13, {"fmod": 1}, [X, SCALAR], 1),
    ("Pow", 15, {}, [np.abs(INTEGERS), -SCALAR[None]], 1),
    ("Max", 13, {}, [X, SCALAR, ONE], 1),
    ("Where", 16, {}, [ONE > 0, X, SCALAR], 1),
    ("Add", 14, {}, [NONE, X[:1]], 1),
    ("ReduceSum", 13, {}, [SCALAR], 1),
    ("ReduceMean", 18, {"keepdims": 0}, [SCALAR], 1),
    ("ReduceMean", 18, {}, [INTEGERS.astype(np.int32), integers(1, 2)], 1),
    ("ReduceMax", 18, {"noop_with_empty_axes": 1}, [X], 1),
    ("ReduceSum", 13, {"keepdims": 0}, [NONE, integers(0)], 1),
    ("ReduceSum", 13, {"keepdims": 0}, [NONE, integers(1)], 1),
    ("ReduceL2", 18, {}, [X, integers(0, -1)], 1),
    ("ArgMin", 13, {"axis": -1, "select_last_index": 1}, [np.zeros((2, 3), np.float32)], 1),
    ("TopK", 11, {"axis": 0, "largest": 0}, [np.zeros((5, 2), np.float32), integers(3)], 2),
    ("CumSum", 14, {"exclusive": 1, "reverse": 1}, [X, np.array(-2)], 1),
    ("CumSum", 14, {"exclusive": 1}, [NONE, np.array(0)], 1),
    ("Unique", 11, {"sorted": 0}, [np.array([3, 1, 1, 4, 3], np.float32)], 4),
    ("Unique", 11, {"axis": 1}, [np.array([[1, 0, 1], [2, 0, 2]], np.float32)], 4),
    ("NonZero", 13, {}, [X.round()], 1),
    ("Gemm", 13, {"transA": 1, "alpha": 0.5, "beta": 2.0}, [X[0], X[0], SCALAR], 1),
    ("Gemm", 13, {"transB": 1}, [X[0], X[1], X[0, :, :1]], 1),
    ("Gemm", 13, {"transB": 1}, [NONE[:, 0], X[1], X[0, 0, :3]], 1),
    ("MatMul", 13, {}, [X[0, 0], X.transpose(0, 2, 1)], 1),
    ("Reshape", 14, {}, [X, integers(-1, 0, 2)], 1),
    ("Reshape", 14, {}, [SCALAR, integers(1, 1)], 1),
    ("Reshape", 14, {}, [X[:1, :1, :1], integers()], 1),
    ("Flatten", 13, {"axis": -1}, [X], 1),
    ("Flatten", 13, {"axis": 0}, [X], 1),
    ("Flatten", 13, {}, [NONE], 1),
    ("Expand", 13, {}, [ONE, integers(5, 1, 3, 1)], 1),
    ("Tile", 13, {}, [X, integers(2, 1, 3)], 1),
    ("Split", 18, {"axis": 1, "num_outputs": 2}, [X], 2),
    ("Split", 13, {"axis": -1}, [X, integers(3, 0, 1)], 3),
    ("Slice", 13, {}, [X, integers(-1, 10), integers(-(2**63), -10), integers(2, 1), integers(-2, -1)], 1),
    ("Slice", 13, {}, [X, integers(2), integers(1), integers(1)], 1),
    ("Slice", 13, {}, [X, integers(0), integers(2**63 - 1), integers(-1), integers(3)], 1),
    ("Gather", 13, {"axis": -2}, [X, np.array(-1)], 1),
    ("Gather", 13, {}, [X, np.zeros((2, 0), np.int64)], 1),
    ("GatherND", 13, {"batch_dims": 1}, [X, np.array([[-1], [1]])], 1),
    ("ScatterND", 18, {"reduction": "add"}, [X, np.array([[0, -1], [0, -1]]), X[0, :2]], 1),
    ("ScatterND", 18, {"reduction": "max"}, [X, np.array([[1], [1]]), -X], 1),
    ("Compress", 11, {"axis": -1}, [X, np.array([False, True, True])], 1),
    ("OneHot", 11, {"axis": 0}, [np.array([[-1, 3]]), np.array(3), np.array([2, 5], np.float32)], 1),
    ("Range", 11, {}, [np.array(7), np.array(-3), np.array(-4)], 1),
    ("Range", 11, {}, [np.array(v, np.float32) for v in (0, 1, 0.1)], 1),
    ("Range", 11, {}, [np.array(3), np.array(3), np.array(1)], 1),
    ("Trilu", 14, {"upper": 0}, [X, np.array(1)], 1),
    ("ReverseSequence", 10, {"batch_axis": 0, "time_axis": 1}, [X, integers(1, 3)], 1),
    ("Cast", 13, {"to": TensorProto.INT32}, [X], 1),
    ("Cast", 13, {"to": TensorProto.FLOAT16}, [X], 1),
    ("Cast", 13, {"to": TensorProto.BOOL}, [X], 1),
    ("QuantizeLinear", 13, {"axis": 1}, [X, np.array([0.1, 0.01, 1], np.float32), np.array([0, -3, 100], np.int8)], 1),
    ("QuantizeLinear", 13, {}, [X, np.array(0.02, np.float32)], 1),
    ("DequantizeLinear", 13, {"axis": 2}, [np.int8(INTEGERS), np.float32([1, 2, 3, 4]), np.int8([0, 1, -5, 9])], 1),
    ("DynamicQuantizeLinear", 11, {}, [X * 0], 3),
    ("MatMulInteger", 10, {}, [BYTES[0], BYTES[1].T, np.uint8([3]), np.uint8([1, 2, 3])], 1),
    ("Shape", 15, {"start": -2}, [X], 1),
    ("Size", 13, {}, [NONE], 1),
]


def _name(form: tuple[str, int, dict[str, Any], list[Array], int]) -> str:
    return f"{form[0]}-{form[1]}"


@pytest.mark.parametrize("form", OLD_FORMS, ids=_name)
def test_forms_of_old_files(form: tuple[str, int, dict[str, Any], list[Array], int]) -> None:
    as_onnx_runtime(*form)


@pytest.mark.parametrize("form", EDGES, ids=_name)
def test_scalars_no_samples_and_rare_attributes(form: tuple[str, int, dict[str, Any], list[Array], int]) -> None:
    as_onnx_runtime(*form)


def test_before_version_7_a_node_said_where_the_second_tensor_goes() -> None:
    add = operation_of(NodeFacts("Add", 6, {"broadcast": 1, "axis": 1}, (True, True), 1))
    x, bias = torch.zeros(2, 3, 4), torch.arange(3.0)
    assert torch.equal(add(x, bias), bias[None, :, None].expand(2, 3, 4))


def test_what_is_left_of_a_shape_is_known_without_samples() -> None:
    reshape = operation_of(NodeFacts("Reshape", 14, {}, (True, True), 1))
    assert reshape(torch.zeros(0, 3, 4), torch.tensor([0, -1])).shape == (0, 12)


def test_dropout_that_asks_for_training_drops_and_scales() -> None:
    dropout = operation_of(NodeFacts("Dropout", 13, {}, (True, True, True), 2))
    y, mask = dropout(torch.ones(1000), torch.tensor(0.25), torch.tensor(True))
    assert 650 < int(mask.sum()) < 850
    torch.testing.assert_close(y, mask / 0.75)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Cast", {"to": TensorProto.STRING}),
        ("Cast", {"to": "FLOAT"}),
        ("EyeLike", {"dtype": TensorProto.UINT16}),
        ("Constant", {"value_string": "a word"}),
        ("Constant", {"value": torch.zeros(1, dtype=torch.uint16)}),
        ("ConstantOfShape", {"value": torch.zeros(1, dtype=torch.float8_e5m2)}),
        ("QuantizeLinear", {"output_dtype": TensorProto.FLOAT8E4M3FN}),
    ],
)
def test_what_torch_has_no_number_format_for_is_left_to_onnx_runtime(operator: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(NotInTorchError):
        operation_of(NodeFacts(operator, 21, attributes, (True,), 1))
