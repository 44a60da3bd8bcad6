"""The number formats of ONNX: how many bits a number takes, and where and how the tensors of a file hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from polyadic.errors import DataError
from polyadic.onnx.messages import shown

LIMIT = 2**31 - 1
"""Bytes that protobuf holds in one message, and so of a file with all its data inside."""

_MOST_AXES = 64  # numpy's limit


@dataclass(frozen=True)
class TensorFormat:
    """How tensors of one number format are held.

    Attributes:
        name: of the format.
        bits: of one number in raw data; 0 for texts, which raw data does not hold.
        field: the list that holds the numbers where they are not raw data.
        entries: of that list for one number, where it takes more than one: a complex number takes two.
        numpy: of raw data in numpy, None where numpy has no such format.
    """

    name: str
    bits: int
    field: str
    entries: int = 1
    numpy: str | None = None

    @property
    def packed(self) -> int:
        """Numbers in one byte, or one entry of the list: several where they take less than a byte."""
        return 8 // self.bits if 0 < self.bits < 8 else 1


# The keys are ONNX's own numbers, onnx.TensorProto.DataType; raw data is little-endian on every machine.
FORMATS = {
    1: TensorFormat("float32", 32, "float_data", numpy="<f4"),
    2: TensorFormat("uint8", 8, "int32_data", numpy="u1"),
    3: TensorFormat("int8", 8, "int32_data", numpy="i1"),
    4: TensorFormat("uint16", 16, "int32_data", numpy="<u2"),
    5: TensorFormat("int16", 16, "int32_data", numpy="<i2"),
    6: TensorFormat("int32", 32, "int32_data", numpy="<i4"),
    7: TensorFormat("int64", 64, "int64_data", numpy="<i8"),
    8: TensorFormat("string", 0, "string_data"),
    9: TensorFormat("bool", 8, "int32_data", numpy="u1"),
    10: TensorFormat("float16", 16, "int32_data", numpy="<f2"),
    11: TensorFormat("float64", 64, "double_data", numpy="<f8"),
    12: TensorFormat("uint32", 32, "uint64_data", numpy="<u4"),
    13: TensorFormat("uint64", 64, "uint64_data", numpy="<u8"),
    14: TensorFormat("complex64", 64, "float_data", entries=2, numpy="<c8"),
    15: TensorFormat("complex128", 128, "double_data", entries=2, numpy="<c16"),
    16: TensorFormat("bfloat16", 16, "int32_data", numpy="<u2"),
    17: TensorFormat("float8e4m3fn", 8, "int32_data"),
    18: TensorFormat("float8e4m3fnuz", 8, "int32_data"),
    19: TensorFormat("float8e5m2", 8, "int32_data"),
    20: TensorFormat("float8e5m2fnuz", 8, "int32_data"),
    21: TensorFormat("uint4", 4, "int32_data"),
    22: TensorFormat("int4", 4, "int32_data"),
    23: TensorFormat("float4e2m1", 4, "int32_data"),
    24: TensorFormat("float8e8m0", 8, "int32_data"),
    25: TensorFormat("uint2", 2, "int32_data"),
    26: TensorFormat("int2", 2, "int32_data"),
}

FLOATS = frozenset((1, 10, 11, 16))
"""Those of floating-point numbers that weights are held in."""

_LISTS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def checked_format(tensor: onnx.TensorProto) -> TensorFormat:
    """The number format of a tensor, whose dimensions are sound; its data is not looked at.

    Raises:
        DataError: an unknown format, a negative dimension, more than 64 axes, or more than 2^31 - 1 bytes.
    """
    name = shown(tensor.name)
    found = FORMATS.get(tensor.data_type)
    if found is None:
        raise DataError(
            f"tensors are held in a number format that is known; {name} has number {tensor.data_type}, and formats are "
            f"1 to {max(FORMATS)}: export the file again"
        )
    if len(tensor.dims) > _MOST_AXES:
        raise DataError(f"tensors have at most {_MOST_AXES} axes; {name} has {len(tensor.dims):,}: do not trust it")
    if any(size < 0 for size in tensor.dims):
        raise DataError(f"dimensions are 0 or more; {name} has {dims_of(tensor)}: the file is damaged, export it again")
    # An axis of length 0 empties a tensor, yet the others must be such that numpy and torch can count them.
    most = math.prod(max(size, 1) for size in tensor.dims) * max(found.bits, 8 // found.packed)
    if most > 8 * LIMIT:
        raise DataError(
            f"tensors of an ONNX file hold at most 2^31 - 1 bytes; {name} claims {dims_of(tensor)} in {found.name}: "
            "do not trust this file"
        )
    if tensor.HasField("segment"):
        raise DataError(f"tensors are whole; {name} is a segment of one: write the file again with whole tensors")
    return found


def dims_of(tensor: onnx.TensorProto) -> str:
    """The dimensions of a tensor, cut where they are many."""
    sizes = [str(size) for size in tensor.dims[:6]]
    return f"({', '.join(sizes)}{', ...' if len(tensor.dims) > 6 else ''})"


def bytes_of(tensor: onnx.TensorProto, form: TensorFormat) -> int:
    """How many bytes the dimensions of a tensor ask for."""
    bits: int = math.prod(tensor.dims) * form.bits
    return -(-bits // 8)


def check_data(tensor: onnx.TensorProto, form: TensorFormat) -> None:
    """Compare the data that stands in a tensor with its dimensions; ``form`` is from :func:`checked_format`.

    Raises:
        DataError: too little or too much data, data of another format, or numbers that the format does not hold.
    """
    name, raw = shown(tensor.name), tensor.HasField("raw_data")
    strays = [field for field in _LISTS if len(getattr(tensor, field)) and (raw or field != form.field)]
    if strays:
        raise DataError(
            f"a tensor holds its numbers once, in the list of its format; {name} in {form.name} holds {strays[0]}"
            f"{' besides raw_data' if raw else ''}: export the file again"
        )
    if raw:
        if not form.bits:
            raise DataError(f"texts stand in string_data; {name} holds them as raw_data: export the file again")
        has, needs, what = len(tensor.raw_data), bytes_of(tensor, form), "bytes"
    else:
        count = math.prod(tensor.dims)
        has, needs, what = len(getattr(tensor, form.field)), -(-count // form.packed) * form.entries, "entries"
    if has != needs:
        raise DataError(
            f"a tensor holds as many numbers as its dimensions say; {name}, {dims_of(tensor)} in {form.name}, needs "
            f"{needs:,} {what} and has {has:,}: the file is damaged or cut off, export it again"
        )
    _check_range(tensor, form)


def _check_range(tensor: onnx.TensorProto, form: TensorFormat) -> None:
    """Numbers of narrow formats stand in lists of wider ones, which could hold more."""
    if form.field == "int32_data" and form.bits < 32:
        signed = form.name in ("int8", "int16")
        width = max(form.bits, 8)
        low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    elif form.name == "uint32":
        low, high = 0, 2**32 - 1
    else:
        return
    numbers = getattr(tensor, form.field)
    if len(numbers) and not (low <= min(numbers) and max(numbers) <= high):
        raise DataError(
            f"numbers in {form.name} stand between {low} and {high}; {shown(tensor.name)} holds others: the file is "
            "damaged, export it again"
        )
