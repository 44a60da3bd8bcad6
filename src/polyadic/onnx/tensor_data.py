"""The numbers of a tensor in an ONNX file as a numpy array, and arrays as tensors; whatever is wrong is a DataError."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from polyadic.errors import DataError
from polyadic.onnx.messages import shown, told
from polyadic.onnx.tensor_formats import FORMATS, LIMIT, TensorFormat, check_data, checked_format

_BOOL, _FLOAT16, _BFLOAT16 = 9, 10, 16

# What numpy calls the formats that arrays have by themselves, to ONNX's own numbers.
_CODES = {form.name: code for code, form in FORMATS.items() if form.numpy is not None}


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The numbers of a tensor as an array of its shape that owns its memory.

    bfloat16 and floats of 8 and 4 bits, which numpy does not have, become float32; integers of 4 and 2 bits become
    int8 or uint8. All others keep their format.

    Raises:
        DataError: the data does not fit the dimensions, stands in another file, or is text.
    """
    name = shown(tensor.name)
    form = checked_format(tensor)
    if not form.bits:
        raise DataError(f"a tensor of numbers is asked for here; {name} holds texts: give the node numbers")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise DataError(f"data in another file is read with the whole file; {name} has its own outside: use read_onnx")
    check_data(tensor, form)
    flat: NDArray[Any]
    flat = _small_numbers(tensor, form) if form.numpy is None else _numbers(tensor, form, np.dtype(form.numpy))
    return flat.reshape(tuple(tensor.dims))


def _numbers(tensor: onnx.TensorProto, form: TensorFormat, held: np.dtype[Any]) -> NDArray[Any]:
    """The numbers in a row, in a format that numpy has, and in the order of bytes of this machine."""
    if tensor.HasField("raw_data"):
        flat = np.frombuffer(tensor.raw_data, dtype=held)
    elif tensor.data_type == _FLOAT16:
        flat = np.array(tensor.int32_data, dtype="<u2").view(held)  # the list holds the bits of each number
    elif form.entries > 1:
        flat = np.array(getattr(tensor, form.field), dtype="<f4" if held.itemsize == 8 else "<f8").view(held)
    else:
        flat = np.array(getattr(tensor, form.field), dtype=held)
    if tensor.data_type == _BOOL:
        return flat.astype(np.bool_)
    if tensor.data_type == _BFLOAT16:  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(held.newbyteorder("="))


def _small_numbers(tensor: onnx.TensorProto, form: TensorFormat) -> NDArray[Any]:
    """Numbers of 8 bits and less that numpy has no format for, unpacked by the onnx package."""
    wider: Any = np.float32 if form.name.startswith("float") else np.uint8 if form.name.startswith("u") else np.int8
    try:
        return np.asarray(numpy_helper.to_array(tensor)).astype(wider).reshape(-1)
    except Exception as error:  # an onnx package older than the format raises errors of several kinds
        raise DataError(
            f"tensors in {form.name} are unpacked by the onnx package; of {shown(tensor.name)} it says: {told(error)}: "
            "upgrade onnx, or export the file in another format"
        ) from error


def tensor_like(array: NDArray[Any], like: onnx.TensorProto | str, dtype: int | None = None) -> onnx.TensorProto:
    """An array as a tensor of an ONNX file, its numbers as raw data.

    Args:
        array: of any shape; a tensor's shape is this one, whatever ``like`` has.
        like: a tensor that gives its name and its number format, or a name alone.
        dtype: the number format by ONNX's own number, ``onnx.TensorProto.FLOAT`` for one; where it is None, that of
            ``like``, or of the array where ``like`` is a name.

    Raises:
        DataError: the format does not hold these numbers, such as 1e5 in float16, or -1 in uint8.
    """
    name = like if isinstance(like, str) else like.name
    if dtype is None:
        dtype = _CODES.get(array.dtype.name, 0) if isinstance(like, str) else like.data_type
    form = FORMATS.get(dtype)
    if form is None or form.numpy is None or array.dtype.kind not in "fiubc":
        raise DataError(
            f"arrays of numbers are written in formats that numpy has, or bfloat16; {shown(name)} is {array.dtype}, to "
            f"be written as {form.name if form else f'format {dtype}'}: choose float32"
        )
    if array.size * form.bits > 8 * LIMIT:
        raise DataError(
            f"tensors of an ONNX file hold at most 2^31 - 1 bytes; {shown(name)} has {array.size:,} numbers: choose a "
            "narrower format"
        )
    flat = np.ascontiguousarray(array).reshape(-1)
    with np.errstate(all="ignore"):
        held = _cast(flat, form, dtype)
    if held is None:
        raise DataError(
            f"numbers keep their values when they are written; {form.name} does not hold those of {shown(name)}, in "
            f"{array.dtype}: choose a wider format"
        )
    tensor = onnx.TensorProto(name=name, data_type=dtype, dims=array.shape)
    tensor.raw_data = held.tobytes()
    return tensor


def _cast(flat: NDArray[Any], form: TensorFormat, dtype: int) -> NDArray[Any] | None:
    """The numbers in the format of raw data, floats rounded; None where the format does not hold them."""
    held = np.dtype(form.numpy)
    if dtype == _BFLOAT16:
        return _bfloat16(flat)
    if held.kind == "f":
        if flat.dtype.kind == "c":
            return None
        cast = flat.astype(held)
        return cast if np.array_equal(np.isfinite(cast), np.isfinite(flat)) else None
    cast = flat.astype(np.bool_).astype(held) if dtype == _BOOL else flat.astype(held)
    if held.kind == "c":
        return cast if np.array_equal(np.isfinite(cast), np.isfinite(flat)) else None
    # Whole numbers are exact or refused; -1 and 2^64 - 1 are equal after a cast, and differ in sign.
    same = np.array_equal(cast.astype(flat.dtype), flat) and np.array_equal(cast < 0, flat < 0)
    return cast if same and flat.dtype.kind in "iub" else None


def _bfloat16(flat: NDArray[Any]) -> NDArray[Any] | None:
    """The upper halves of float32, rounded to the nearest, ties to even."""
    if flat.dtype.kind == "c":
        return None
    wide = flat.astype(np.float32)
    bits = wide.view(np.uint32)
    rounded = ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype("<u2")
    rounded[np.isnan(wide)] = 0x7FC0  # adding to the bits of NaN may give infinity
    back = (rounded.astype(np.uint32) << 16).view(np.float32)
    return rounded if np.array_equal(np.isfinite(back), np.isfinite(flat)) else None
