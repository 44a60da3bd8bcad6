"""Tensor-train layers for the tests: random geometry, modes and ranks, padded ones too."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.layers import TTLayer
from polyadic.schema import ConvSpec, TTSpec, Way

Case = tuple[TTSpec, tuple[int, ...]]


@st.composite
def trains(draw: st.DrawFn, axes: st.SearchStrategy[int] | None = None) -> Case:
    """A tensor-train layer over 0 to 3 axes, and an input size that it can take."""
    number = draw(st.integers(0, 3) if axes is None else axes)

    def per_axis(least: int, most: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(least, most)] * number))

    d = draw(st.integers(1, 3))
    rows, columns = (draw(st.tuples(*[st.integers(1, 3)] * d)) for _ in range(2))
    transposed = number > 0 and draw(st.booleans())
    same = number > 0 and not transposed and draw(st.booleans())
    dilation, stride = per_axis(1, 2), (1,) * number if same else per_axis(1, 2)
    dense = ConvSpec(
        # up to a quarter of what the modes have is padding
        draw(st.integers(math.ceil(0.75 * math.prod(columns)), math.prod(columns))),
        draw(st.integers(math.ceil(0.75 * math.prod(rows)), math.prod(rows))),
        (1,) * number if draw(st.integers(0, 3)) == 0 else per_axis(1, 3),
        stride,
        "same" if same else per_axis(0, 2),
        dilation,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
        if number and not transposed
        else "zeros",
        transposed=transposed,
        output_padding=tuple(draw(st.integers(0, max(a, b) - 1)) for a, b in zip(dilation, stride, strict=True))
        if transposed
        else (),
    )
    bonds = d if dense.taps > 1 else d - 1
    ranks = draw(st.tuples(*[st.integers(1, 3)] * bonds))
    return TTSpec(dense, rows, columns, ranks), tuple(5 + more for more in per_axis(0, 2))


def conv(S: int, T: int, *kernel: int, padding: int = 1, stride: int = 1, bias: bool = True) -> ConvSpec:
    """A convolution of equal stride and padding along its axes."""
    axes = len(kernel)
    return ConvSpec(S, T, kernel, (stride,) * axes, (padding,) * axes, (1,) * axes, bias=bias)


# 6 to 6 channels over a 3 x 3 window, counted in two digits
SMALL = TTSpec(conv(6, 6, 3, 3), (2, 3), (3, 2), (2, 3))


def layer_of(spec: TTSpec, way: Way = "cores", seed: int = 0) -> TTLayer:
    """With random cores and bias, float64."""
    layer = TTLayer(spec.in_way(way), dtype=torch.float64)
    layer.load_flat(gaussian(*spec.weight_shape, seed=seed))
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.copy_(gaussian(spec.out_channels, seed=seed + 1))
    return layer


def image_of(spec: TTSpec, size: tuple[int, ...], samples: int = 2) -> Tensor:
    """A random input batch, float64."""
    return gaussian(samples, spec.in_channels, *size, seed=7)
