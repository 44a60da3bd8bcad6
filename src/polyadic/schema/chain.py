"""Chains of layers in integers: what every format is lowered to."""

from __future__ import annotations

from polyadic.schema.composition import move_stride
from polyadic.schema.conv_spec import ConvSpec
from polyadic.schema.tt_spec import TTSpec

Stage = ConvSpec | TTSpec
"""One layer of a chain."""


def chain_params(stages: tuple[Stage, ...]) -> int:
    """Weights and biases of a chain of layers."""
    return sum(stage.params for stage in stages)


def chain_macs(stages: tuple[Stage, ...], input_size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a chain of layers for one sample of ``input_size``."""
    total = 0
    for stage in stages:
        total += stage.macs(input_size)
        input_size = stage.output_size(input_size)
    return total


def stride_early(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same chain with every stride as early as it is exact, so that no stage computes what the next leaves out."""
    early = list(stages)
    for number in reversed(range(1, len(early))):
        first, second = early[number - 1 : number + 1]
        if isinstance(first, ConvSpec) and isinstance(second, ConvSpec):
            early[number - 1 : number + 1] = move_stride(first, second)
    return tuple(early)
