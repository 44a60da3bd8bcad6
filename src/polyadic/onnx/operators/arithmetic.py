"""Arithmetic of single elements: sums, products, powers, roundings and the functions of analysis."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, enter_plain, operator

BinaryFunction = Callable[[Tensor, Tensor], Tensor]


def divide(dividend: Tensor, divisor: Tensor) -> Tensor:
    """The quotient, which integers lose the fraction of: -7 / 2 is -3."""
    exact = dividend.is_floating_point()
    return torch.div(dividend, divisor, rounding_mode=None if exact else "trunc")


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """A power in the number format of the base, whatever that of the exponent."""
    # Of an integer to a fraction in float64, which holds larger integers than torch's own choice of float32.
    exact = base.is_floating_point() or not exponent.is_floating_point()
    return torch.pow(base if exact else base.to(torch.float64), exponent).to(base.dtype)


def enter_binary(functions: dict[str, BinaryFunction]) -> None:
    """Enter functions of two tensors that broadcast; before version 7 a node said where the second one goes."""

    def builder_of(function: BinaryFunction) -> Callable[[NodeFacts], Operation]:
        def build(facts: NodeFacts) -> Operation:
            axis = facts.attributes.get("axis")
            if facts.opset >= 7 or axis is None:
                return function
            return lambda a, b: function(a, _from_axis(b, axis, a.ndim))

        return build

    for name, function in functions.items():
        operator(name)(builder_of(function))


def _from_axis(b: Tensor, axis: int, ndim: int) -> Tensor:
    """The tensor with its first axis at ``axis`` of a tensor of ``ndim`` axes."""
    trailing = ndim - axis % ndim - b.ndim
    return b.reshape(*b.shape, *[1] * trailing)


enter_binary({"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": divide, "Pow": power})

enter_plain(
    {
        "Neg": torch.neg,
        "Abs": torch.abs,
        "Sqrt": torch.sqrt,
        "Exp": torch.exp,
        "Log": torch.log,
        "Reciprocal": torch.reciprocal,
        "Floor": torch.floor,
        "Ceil": torch.ceil,
        "Round": torch.round,  # half to even, as in ONNX
        "Sign": torch.sign,
        "Sin": torch.sin,
        "Cos": torch.cos,
        "Tan": torch.tan,
        "Asin": torch.asin,
        "Acos": torch.acos,
        "Atan": torch.atan,
        "Sinh": torch.sinh,
        "Cosh": torch.cosh,
        "Tanh": torch.tanh,
        "Asinh": torch.asinh,
        "Acosh": torch.acosh,
        "Atanh": torch.atanh,
        "Erf": torch.erf,
        "BitwiseAnd": torch.bitwise_and,
        "BitwiseOr": torch.bitwise_or,
        "BitwiseXor": torch.bitwise_xor,
        "BitwiseNot": torch.bitwise_not,
        "Min": lambda *tensors: functools.reduce(torch.minimum, tensors),
        "Max": lambda *tensors: functools.reduce(torch.maximum, tensors),
        "Sum": lambda *tensors: functools.reduce(torch.add, tensors),
        "Mean": lambda *tensors: functools.reduce(torch.add, tensors) / len(tensors),
    }
)


@operator("Mod")
def modulo(facts: NodeFacts) -> Operation:
    """The remainder, with the sign of the divisor, or with that of the dividend where ``fmod`` is 1."""
    return torch.fmod if facts.attributes.get("fmod", 0) else torch.remainder


@operator("BitShift")
def bit_shift(facts: NodeFacts) -> Operation:
    """A shift of the bits to the left or to the right."""
    left = facts.attributes["direction"] == "LEFT"
    return torch.bitwise_left_shift if left else torch.bitwise_right_shift


@operator("Clip")
def clip(facts: NodeFacts) -> Operation:
    """Values between two bounds: attributes before version 11, inputs since."""
    if facts.opset < 11:
        lowest, highest = facts.attributes.get("min"), facts.attributes.get("max")
        if lowest is None and highest is None:
            return lambda x: x
        return lambda x: torch.clamp(x, lowest, highest)

    def clamp(x: Tensor, least: Tensor | None = None, greatest: Tensor | None = None) -> Tensor:
        return x if least is None and greatest is None else torch.clamp(x, least, greatest)

    return clamp


@operator("CumSum", "CumProd")
def cumulative(facts: NodeFacts) -> Operation:
    """Sums or products of all elements up to each, of those before it only where ``exclusive`` is 1."""
    accumulate, neutral = (torch.cumsum, 0) if facts.operator == "CumSum" else (torch.cumprod, 1)
    exclusive, reverse = facts.attributes.get("exclusive", 0), facts.attributes.get("reverse", 0)

    def run(x: Tensor, axis: Tensor) -> Tensor:
        dim = int(axis.reshape(()).item())
        x = x.flip(dim) if reverse else x
        if exclusive and x.shape[dim]:
            first = torch.full_like(x.narrow(dim, 0, 1), neutral)
            x = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
        total = accumulate(x, dim, dtype=x.dtype)
        return total.flip(dim) if reverse else total

    return run
