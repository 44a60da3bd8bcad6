"""Which torch function computes a node of an ONNX graph: the table, and what a node says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Operation = Callable[..., Tensor | tuple[Tensor, ...]]
"""Takes the node's inputs in their order, None for one that is left out; gives one tensor, or one for every output."""


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself, apart from the values that reach it.

    Attributes:
        operator: its type, such as ``"Conv"``.
        opset: the version of ONNX's own operators that the file was written for.
        attributes: by name, as int, float, str, a list of these, or a Tensor; those that are left out are missing.
        inputs: for every input whether it is given; inputs may be left out in the middle.
        outputs: how many outputs are asked for.
    """

    operator: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[bool, ...]
    outputs: int


class NotInTorchError(Exception):
    """This form of the operator has no torch function here: ONNX Runtime is to compute the node."""


_BUILDERS: dict[str, Callable[[NodeFacts], Operation]] = {}


def operator(*names: str) -> Callable[[Callable[[NodeFacts], Operation]], Callable[[NodeFacts], Operation]]:
    """Enter a function into the table that makes the operation of a node from what the node says of itself."""

    def enter(builder: Callable[[NodeFacts], Operation]) -> Callable[[NodeFacts], Operation]:
        for name in names:
            if name in _BUILDERS:
                raise ValueError(f"an operator has one entry in the table; '{name}' has two: remove one")
            _BUILDERS[name] = builder
        return builder

    return enter


def enter_plain(functions: Mapping[str, Operation]) -> None:
    """Enter functions of torch that compute their operators as they are, whatever the node's attributes say."""

    def builder_of(function: Operation) -> Callable[[NodeFacts], Operation]:
        return lambda facts: function

    for name, function in functions.items():
        operator(name)(builder_of(function))


def operation_of(facts: NodeFacts) -> Operation:
    """The torch function of a node of ONNX's own domain.

    Raises NotInTorchError where the table has no such operator, or not in the form that the node asks for.
    """
    builder = _BUILDERS.get(facts.operator)
    if builder is None:
        raise NotInTorchError(f"'{facts.operator}' is not in the table")
    return builder(facts)


def operators_in_table() -> tuple[str, ...]:
    """The names of all operators that torch computes, in order."""
    return tuple(sorted(_BUILDERS))
