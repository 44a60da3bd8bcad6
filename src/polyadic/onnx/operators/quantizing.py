"""Numbers as integers times a scale, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polyadic.onnx.operators.dtypes import torch_dtype
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, enter_plain, operator


def along(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or a zero point shaped for a tensor: one for all, for each slice along an axis or each block."""
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.numel() == 1:
        return parameter.reshape(())
    trailing = x.ndim - axis % x.ndim - 1
    return parameter.reshape(-1, *[1] * trailing)


def _dtype_or_none(code: Any) -> torch.dtype | None:
    return torch_dtype(code) if code else None  # ONNX writes 0 for none


@operator("QuantizeLinear")
def quantize_linear(facts: NodeFacts) -> Operation:
    """The integers round(x / scale) + zero, cut at the bounds of their format."""
    axis, block = facts.attributes.get("axis", 1), facts.attributes.get("block_size", 0)
    asked, precision = (_dtype_or_none(facts.attributes.get(name)) for name in ("output_dtype", "precision"))
    if asked is not None and asked.is_floating_point:
        raise NotInTorchError("QuantizeLinear of torch gives integers")

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = asked or (torch.uint8 if zero is None else zero.dtype)
        wide = precision or scale.dtype
        steps = torch.round(x.to(wide) / along(scale, x, axis, block).to(wide))
        # In float32, since 32767 is no number of float16.
        levels = steps.to(torch.float32)
        if zero is not None:
            levels = levels + along(zero, x, axis, block)
        return levels.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)

    return run


@operator("DequantizeLinear")
def dequantize_linear(facts: NodeFacts) -> Operation:
    """The numbers (q - zero) * scale."""
    axis, block = facts.attributes.get("axis", 1), facts.attributes.get("block_size", 0)
    asked = _dtype_or_none(facts.attributes.get("output_dtype"))

    def run(q: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        levels = q.to(torch.int32)
        if zero is not None:
            levels = levels - along(zero, q, axis, block)
        numbers = levels.to(scale.dtype) * along(scale, q, axis, block)
        return numbers.to(asked or scale.dtype)

    return run


def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tensor as 8-bit integers without sign, with the scale and the zero point that its least and greatest give."""
    least, greatest = x.amin().clamp(max=0), x.amax().clamp(min=0)
    span = greatest - least
    scale = torch.where(span == 0, 1, span / 255)
    zero = torch.round(-least / scale).clamp(0, 255)
    levels = torch.round(x / scale) + zero
    return levels.clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


enter_plain({"DynamicQuantizeLinear": dynamic_quantize})
