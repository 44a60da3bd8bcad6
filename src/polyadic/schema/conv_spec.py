"""A convolution (or a fully connected layer) described by integers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


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
        transposed: whether the window spreads inputs over outputs (ConvTranspose) instead of gathering them.
        output_padding: of a transposed layer, one per axis; empty otherwise.
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
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no torch layer is: axes, groups or padding that do not fit."""
        axes = len(self.kernel)
        given = [self.stride, self.dilation] + ([] if self.padding == "same" else [tuple(self.padding)])
        given += [self.output_padding] if self.transposed else []
        if any(len(values) != axes for values in given):
            raise ValueError(f"stride, padding and dilation need one value for each of {axes} axes; got {self}")
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"groups divide the channels; got {self.groups} groups of {self.in_channels} and {self.out_channels}"
            )
        if self.padding == "same" and (self.transposed or any(step != 1 for step in self.stride)):
            raise ValueError(f"padding 'same' is for stride 1 and for layers that are not transposed; got {self}")
        if self.padding_mode not in (("zeros",) if self.transposed else PADDING_MODES):
            raise ValueError(
                f"padding is one of {', '.join(PADDING_MODES)}, and zeros in a transposed layer; "
                f"got {self.padding_mode!r}"
            )

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
        """Shape of the kernel: T x S/groups x window.

        PyTorch stores it so, but for transposed layers, whose weight is S x T/groups x window there.
        """
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def one_group(self) -> ConvSpec:
        """The layer that one of the groups is by itself; the bias stays."""
        S, T = self.in_channels // self.groups, self.out_channels // self.groups
        return replace(self, in_channels=S, out_channels=T, groups=1)

    def repeated(self, groups: int) -> ConvSpec:
        """``groups`` such layers side by side, each with channels of its own."""
        S, T = self.in_channels * groups, self.out_channels * groups
        return replace(self, in_channels=S, out_channels=T, groups=self.groups * groups)

    def along(self, axes: Sequence[int], in_channels: int, out_channels: int) -> ConvSpec:
        """The part of this layer's geometry that belongs to some of its axes; a window of 1 on the others, no bias.

        Such parts for all axes, one after the other, move positions as this layer does.
        """

        def kept(values: tuple[int, ...], otherwise: int) -> tuple[int, ...]:
            return tuple(value if axis in axes else otherwise for axis, value in enumerate(values))

        return replace(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=kept(self.kernel, 1),
            stride=kept(self.stride, 1),
            padding="same" if self.padding == "same" else kept(self.padding, 0),
            dilation=kept(self.dilation, 1),
            bias=False,
            output_padding=kept(self.output_padding, 0),
        )

    @property
    def params(self) -> int:
        """Weights and bias."""
        return math.prod(self.weight_shape) + (self.out_channels if self.bias else 0)

    @property
    def pads(self) -> list[int]:
        """Padding before and after, from the last axis to the first as ``F.pad`` counts them."""
        pads: list[int] = []
        for axis in reversed(range(self.axes)):
            if self.padding == "same":
                both = self.dilation[axis] * (self.kernel[axis] - 1)
                pads += [both // 2, both - both // 2]
            else:
                pads += [self.padding[axis]] * 2
        return pads

    def output_size(self, input_size: tuple[int, ...]) -> tuple[int, ...]:
        """Size along every spatial axis after the layer; a Linear keeps its positions as they are."""
        if not self.kernel or self.padding == "same":
            return input_size
        reach = tuple(dilation * (window - 1) for dilation, window in zip(self.dilation, self.kernel, strict=True))
        axes = zip(input_size, reach, self.stride, self.padding, strict=True)
        if self.transposed:
            spread = ((size - 1) * stride - 2 * pad + span + 1 for size, span, stride, pad in axes)
            return tuple(size + extra for size, extra in zip(spread, self.output_padding, strict=True))
        return tuple((size + 2 * pad - span - 1) // stride + 1 for size, span, stride, pad in axes)

    def macs(self, input_size: tuple[int, ...]) -> int:
        """Multiply-accumulates for one sample (additions of the bias are not counted).

        Every tap of the window is counted at every position, also where it meets padding, as PyTorch's counter does.
        """
        positions = input_size if self.transposed else self.output_size(input_size)
        return math.prod(positions) * math.prod(self.weight_shape)
