"""Tensors that a node makes by itself, or from numbers and shapes alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from polyadic.onnx.operators.dtypes import TORCH_DTYPES, torch_dtype
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

_VALUES = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


@operator("Constant")
def constant(facts: NodeFacts) -> Operation:
    """The tensor, number or list of numbers that the node holds."""
    value = facts.attributes.get("value")
    for name, dtype in _VALUES.items():
        if name in facts.attributes:
            value = torch.tensor(facts.attributes[name], dtype=dtype)
    fixed = _tensor_of_numbers(value)
    return lambda: fixed


def _tensor_of_numbers(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype not in TORCH_DTYPES.values():
        raise NotInTorchError("a constant of torch is a dense tensor in a number format that torch computes with")
    return value


@operator("ConstantOfShape")
def constant_of_shape(facts: NodeFacts) -> Operation:
    """One number at every place of a tensor of a given shape, 0 in float32 where the node names none."""
    value = _tensor_of_numbers(facts.attributes.get("value", torch.zeros(1)))
    number, dtype = value.reshape(()).item(), value.dtype
    return lambda shape: torch.full(shape.tolist(), number, dtype=dtype, device=shape.device)


@operator("Range")
def number_range(facts: NodeFacts) -> Operation:
    """Numbers from a start to before a limit, each a step further."""

    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        start, limit, delta = start.reshape(()), limit.reshape(()), delta.reshape(())
        span, step = limit.item() - start.item(), delta.item()
        # Integers are divided as such: beyond 2**53 a float would not hold them.
        count = math.ceil(span / step) if start.is_floating_point() else -(-span // step)
        # Numbers of 16 bits are counted in float32, where 0, 1, 2, ... does not stop growing at 256 or 2048.
        wide = torch.float32 if start.dtype in (torch.float16, torch.bfloat16) else start.dtype
        places = torch.arange(max(int(count), 0), dtype=wide, device=start.device)
        return (start.to(wide) + places * delta.to(wide)).to(start.dtype)

    return run


@operator("EyeLike")
def eye_like(facts: NodeFacts) -> Operation:
    """Ones on a diagonal of a matrix of the same shape, zeros elsewhere."""
    offset, code = facts.attributes.get("k", 0), facts.attributes.get("dtype")
    dtype = None if code is None else torch_dtype(code)

    def run(x: Tensor) -> Tensor:
        row = torch.arange(x.shape[0], device=x.device)[:, None]
        return torch.eq(torch.arange(x.shape[1], device=x.device), row + offset).to(dtype or x.dtype)

    return run


@operator("Trilu")
def triangle(facts: NodeFacts) -> Operation:
    """The upper or the lower triangle of matrices, from a diagonal on; zeros elsewhere."""
    cut = torch.triu if facts.attributes.get("upper", 1) else torch.tril
    return lambda x, k=None: cut(x, 0 if k is None else int(k.reshape(()).item()))


@operator("Dropout")
def dropout(facts: NodeFacts) -> Operation:
    """The tensor as it is, and a mask that keeps all: a network is computed as it is used, not as it is trained.

    Only a node whose input asks for training drops elements, drawn by torch.
    """
    mask_is_bool = facts.opset >= 10

    def run(x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> tuple[Tensor, ...]:
        kept, mask = x, torch.ones_like(x, dtype=torch.bool)
        if training is not None and bool(training.item()):
            rate = 0.5 if ratio is None else float(ratio.item())
            mask = torch.rand_like(x) >= rate
            kept = torch.where(mask, x / (1 - rate), 0) if rate < 1 else torch.zeros_like(x)
        return (kept, mask if mask_is_bool else mask.to(x.dtype))[: facts.outputs]

    return run
