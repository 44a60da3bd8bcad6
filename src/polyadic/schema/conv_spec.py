"""A convolution (or a fully connected layer) described by integers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ConvSpec:
    """One plain layer. A Linear is the convolution without spatial axes: ``kernel == ()``.

    Attributes:
        in_channels: S.
        out_channels: T.
        kernel: window sizes, one per spatial axis (0 to 3 axes).
        stride: one per axis.
        padding: one per axis on both sides, or "same".
        dilation: one per axis.
        groups: channel groups.
        bias: whether a bias of T numbers is added.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | Literal["same"] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        """Refuse geometry whose axes do not match."""
        axes = len(self.kernel)
        given = [self.stride, self.dilation] + ([] if self.padding == "same" else [tuple(self.padding)])
        if any(len(values) != axes for values in given):
            raise ValueError(f"stride, padding and dilation need one value for each of {axes} axes; got {self}")

    @staticmethod
    def pointwise(in_channels: int, out_channels: int, axes: int, bias: bool = False) -> ConvSpec:
        """A 1 x 1 convolution of stride 1 over ``axes`` spatial axes (a Linear for none)."""
        return ConvSpec(in_channels, out_channels, (1,) * axes, (1,) * axes, (0,) * axes, (1,) * axes, bias=bias)

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def taps(self) -> int:
        """Window positions, ``D^2`` for a D x D kernel."""
        return math.prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as PyTorch stores it: T x S/groups x window."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def params(self) -> int:
        """Weights and bias."""
        return math.prod(self.weight_shape) + (self.out_channels if self.bias else 0)

    def output_size(self, input_size: tuple[int, ...]) -> tuple[int, ...]:
        """Size along every spatial axis after the layer; a Linear keeps its positions as they are."""
        if not self.kernel or self.padding == "same":
            return input_size
        return tuple(
            (size + 2 * pad - dilation * (window - 1) - 1) // stride + 1
            for size, window, stride, pad, dilation in zip(
                input_size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )

    def macs(self, input_size: tuple[int, ...]) -> int:
        """Multiply-accumulates for one sample (additions of the bias are not counted)."""
        return math.prod(self.output_size(input_size)) * math.prod(self.weight_shape)


def chain_params(stages: tuple[ConvSpec, ...]) -> int:
    """Weights and biases of a chain of layers."""
    return sum(stage.params for stage in stages)


def chain_macs(stages: tuple[ConvSpec, ...], input_size: tuple[int, ...]) -> int:
    """Multiply-accumulates of a chain of layers for one sample of ``input_size``."""
    total = 0
    for stage in stages:
        total += stage.macs(input_size)
        input_size = stage.output_size(input_size)
    return total
