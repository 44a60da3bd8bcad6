"""Chains of layers in integers: what every format is lowered to."""

from __future__ import annotations

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
