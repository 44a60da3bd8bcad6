"""Comparisons, logic, and choices between two tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from polyadic.onnx.operators.arithmetic import enter_binary
from polyadic.onnx.operators.table import NodeFacts, Operation, enter_plain, operator

enter_binary(
    {
        "Equal": torch.eq,
        "Greater": torch.gt,
        "GreaterOrEqual": torch.ge,
        "Less": torch.lt,
        "LessOrEqual": torch.le,
        "And": torch.logical_and,
        "Or": torch.logical_or,
        "Xor": torch.logical_xor,
    }
)

enter_plain({"Not": torch.logical_not, "Where": torch.where, "IsNaN": torch.isnan})


@operator("IsInf")
def is_infinite(facts: NodeFacts) -> Operation:
    """Which elements are infinite, of the signs that the node looks for."""
    negative, positive = facts.attributes.get("detect_negative", 1), facts.attributes.get("detect_positive", 1)
    if negative and positive:
        return torch.isinf
    if negative:
        return torch.isneginf
    if positive:
        return torch.isposinf

    def none(x: Tensor) -> Tensor:
        return torch.zeros_like(x, dtype=torch.bool)

    return none
