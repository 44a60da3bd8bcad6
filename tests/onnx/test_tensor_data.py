"""Tensors of ONNX files as arrays and back, in every number format."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from polyadic.errors import DataError
from polyadic.onnx.tensor_data import array_of, tensor_like

PLAIN = (
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
COMPLEX = ("complex64", "complex128")
SMALL = {
    "bfloat16": np.float32,
    "float8_e4m3fn": np.float32,
    "float8_e4m3fnuz": np.float32,
    "float8_e5m2": np.float32,
    "float8_e5m2fnuz": np.float32,
    "float4_e2m1fn": np.float32,
    "int4": np.int8,
    "uint4": np.uint8,
    "int2": np.int8,
    "uint2": np.uint8,
}


def numbers(dtype: Any) -> np.ndarray:
    """Numbers that every format holds, an odd count of them."""
    return np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]]).astype(dtype)


@pytest.mark.parametrize("dtype", [*PLAIN, *COMPLEX])
@pytest.mark.parametrize("raw", [True, False])
def test_formats_of_numpy_are_kept(dtype: str, raw: bool) -> None:
    array = numbers(dtype)
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = helper.make_tensor("t", code, array.shape, array.tobytes() if raw else array.flatten(), raw=raw)
    found = array_of(tensor)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found.flags.writeable


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("raw", [True, False])
def test_other_formats_become_wider(name: str, raw: bool) -> None:
    array = numbers(getattr(ml_dtypes, name))
    tensor = numpy_helper.from_array(array, "t")
    if not raw:
        tensor = helper.make_tensor("t", tensor.data_type, array.shape, array.astype(np.float32).flatten())
    found = array_of(tensor)
    assert found.dtype == SMALL[name]
    assert np.array_equal(found, array.astype(np.float32))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 1)])
def test_numbers_and_empty_tensors(shape: tuple[int, ...]) -> None:
    for dtype in ("float32", "bool"):
        found = array_of(tensor_like(np.zeros(shape, dtype), "t"))
        assert (found.shape, found.dtype) == (shape, np.dtype(dtype))


@pytest.mark.parametrize("dtype", [*PLAIN, *COMPLEX])
def test_arrays_are_written_and_read(dtype: str) -> None:
    array = numbers(dtype).T
    tensor = tensor_like(array, "name")
    assert tensor.name == "name"
    onnx.checker.check_tensor(tensor)
    assert np.array_equal(numpy_helper.to_array(tensor), array)


def test_name_and_format_of_another_tensor() -> None:
    like = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[7])
    tensor = tensor_like(np.ones((2, 3), np.float32), like)
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("w", TensorProto.FLOAT16, [2, 3])
    assert array_of(tensor_like(np.ones(3), like, TensorProto.DOUBLE)).dtype == np.float64


def test_bfloat16_is_rounded_as_torch_does() -> None:
    array = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    array[:4] = 0, -0.0, np.inf, np.nan
    found = array_of(tensor_like(array, "t", TensorProto.BFLOAT16))
    expected = torch.from_numpy(array).to(torch.bfloat16).float().numpy()
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1e5]), TensorProto.FLOAT16),
        (np.array([1e300]), TensorProto.FLOAT),
        (np.array([3.4e38]), TensorProto.BFLOAT16),
        (np.array([1e300]), TensorProto.BFLOAT16),
        (np.array([300]), TensorProto.UINT8),
        (np.array([-1]), TensorProto.UINT64),
        (np.array([2**64 - 1], np.uint64), TensorProto.INT64),
        (np.array([0.5]), TensorProto.INT64),
        (np.array([2]), TensorProto.BOOL),
        (np.array([1j]), TensorProto.FLOAT),
    ],
)
def test_numbers_that_a_format_does_not_hold(array: np.ndarray, dtype: int) -> None:
    with pytest.raises(DataError, match=r"'w', in .*: choose a wider format"):
        tensor_like(array, "w", dtype)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array(["a"]), None),
        (np.array([None]), None),
        (np.ones(1), TensorProto.STRING),
        (np.ones(1), TensorProto.INT4),
        (np.ones(1), 99),
        (np.array(["a"]), TensorProto.FLOAT),
    ],
)
def test_formats_that_are_not_written(array: np.ndarray, dtype: int | None) -> None:
    with pytest.raises(DataError, match="choose float32"):
        tensor_like(array, "w", dtype)


def test_what_is_no_array_of_numbers() -> None:
    with pytest.raises(DataError, match="'t' holds texts"):
        array_of(helper.make_tensor("t", TensorProto.STRING, [1], [b"a"]))
    with pytest.raises(DataError, match="'t' has its own outside"):
        array_of(TensorProto(name="t", data_type=1, data_location=TensorProto.EXTERNAL))
    with pytest.raises(DataError, match="needs 8 bytes and has 4"):
        array_of(TensorProto(name="t", data_type=1, dims=[2], raw_data=bytes(4)))
