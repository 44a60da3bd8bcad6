"""Pairs of plain layers, one reading the other, of any geometry that torch has."""

from __future__ import annotations

from hypothesis import strategies as st
from torch import Tensor, nn

from cases import gaussian
from oracles import dense_layer
from polyadic.schema import ConvSpec

S, M, T = 4, 6, 8


@st.composite
def layers(draw: st.DrawFn, inputs: int, outputs: int, axes: int, taps: int) -> ConvSpec:
    """A layer over ``axes`` axes with windows of at most ``taps``, of any geometry that torch has."""

    def per_axis(least: int, most: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    transposed = axes > 0 and draw(st.integers(0, 3)) == 0
    same = axes > 0 and not transposed and draw(st.integers(0, 3)) == 0
    plain = draw(st.booleans())
    return ConvSpec(
        inputs,
        outputs,
        per_axis(1, taps),
        (1,) * axes if same else per_axis(1, 3),
        "same" if same else (0,) * axes if plain else per_axis(0, 2),
        per_axis(1, 2),
        groups=draw(st.sampled_from([1, 2])) if axes else 1,
        bias=draw(st.booleans()),
        padding_mode="zeros" if transposed or not axes else draw(st.sampled_from(["zeros", "reflect", "circular"])),
        transposed=transposed,
        output_padding=(0,) * axes if transposed else (),
    )


def pairs(first: int, second: int) -> st.SearchStrategy[tuple[ConvSpec, ConvSpec]]:
    """Layers S to M and M to T over up to two axes, with windows of at most so many taps along each."""
    return st.integers(0, 2).flatmap(lambda axes: st.tuples(layers(S, M, axes, first), layers(M, T, axes, second)))


def layer_of(spec: ConvSpec, seed: int) -> nn.Module:
    """A layer of that geometry with random weights, float64."""
    bias = gaussian(spec.out_channels, seed=seed + 1) if spec.bias else None
    return dense_layer(spec, gaussian(*spec.weight_shape, seed=seed), bias)


def image(spec: ConvSpec, size: int = 9) -> Tensor:
    """Two samples."""
    return gaussian(2, spec.in_channels, *[size + axis for axis in range(spec.axes)], seed=9)


def answered(model: nn.Module, x: Tensor) -> Tensor | None:
    """The output; None where torch refuses the geometry."""
    try:
        y: Tensor = model(x)
    except RuntimeError:
        return None
    return y
