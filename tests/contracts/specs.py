"""Layers for the format contract: random geometry for Hypothesis, and one small layer per kind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.formats import FORMATS, Format
from polyadic.schema import ConvSpec

Case = tuple[ConvSpec, tuple[int, ...]]

WINDOW = ConvSpec(4, 3, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
POINTWISE = ConvSpec(6, 5, (1, 1), (2, 2), (0, 0), (1, 1), bias=True)
LINEAR = ConvSpec(6, 5, bias=True)
SMALL_LAYERS = {
    "3 x 3": WINDOW,
    "1 x 1": POINTWISE,
    "Linear": LINEAR,
    "width 3": ConvSpec(3, 5, (3,), (2,), (0,), (1,)),
}

SERVED = [(fmt, name) for fmt in FORMATS for name, spec in SMALL_LAYERS.items() if FORMATS[fmt].refuses(spec) is None]


@st.composite
def layers(draw: st.DrawFn) -> Case:
    """A plain layer of one group with 0 to 3 axes, and an input size that it can take."""
    axes = draw(st.integers(0, 3))

    def per_axis(least: int, most: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    kernel = (1,) * axes if draw(st.booleans()) else per_axis(1, 3)
    same = axes > 0 and draw(st.booleans())
    dilation = per_axis(1, 2)
    spans = [step * (window - 1) + 1 for step, window in zip(dilation, kernel, strict=True)]
    spec = ConvSpec(
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        kernel,
        (1,) * axes if same else per_axis(1, 2),
        "same" if same else per_axis(0, 2),
        dilation,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])) if axes else "zeros",
    )
    return spec, tuple(max(span, 3) + more for span, more in zip(spans, per_axis(0, 2), strict=True))


def served_by(fmt: Format) -> st.SearchStrategy[Case]:
    """Layers that the format does not refuse."""
    return layers().filter(lambda case: fmt.refuses(case[0]) is None)


def kernel_of(spec: ConvSpec, seed: int = 0) -> Tensor:
    """A random kernel, float64."""
    return gaussian(*spec.weight_shape, seed=seed)


def bias_of(spec: ConvSpec) -> Tensor | None:
    """A random bias where the layer has one."""
    return gaussian(spec.out_channels, seed=1) if spec.bias else None


def image_of(spec: ConvSpec, size: tuple[int, ...], samples: int = 2) -> Tensor:
    """A random input batch."""
    return gaussian(samples, spec.in_channels, *size, seed=2)


def middle_rank(fmt: Format, spec: ConvSpec) -> tuple[int, ...]:
    """A rank half way to exactness."""
    return tuple((most + 1) // 2 for most in fmt.largest_rank(spec))


def grouped(spec: ConvSpec, groups: int) -> ConvSpec:
    """The same layer in groups."""
    return replace(spec, groups=groups)
