"""Layers for the format contract: random geometry for Hypothesis, and one small layer per kind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.decomposition import ALSOptions, EPCOptions
from polyadic.formats import FORMATS, CPFormat, Format, TKDCPDFormat
from polyadic.formats.cp import SWIFT
from polyadic.schema import ConvSpec, Stage

Case = tuple[ConvSpec, tuple[int, ...]]

# What a format promises does not depend on how long its solver works.
_SHORT = {"als": ALSOptions(max_sweeps=60), "epc": EPCOptions(max_sweeps=10)}
CONTRACT: dict[str, Format] = {
    **FORMATS,
    "cp-als": CPFormat("cp-als", **_SHORT),
    "cp-als-epc": CPFormat("cp-als-epc", **_SHORT),
    "tkd-cpd-epc": TKDCPDFormat(stable=SWIFT),
}

WINDOW = ConvSpec(5, 4, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
POINTWISE = ConvSpec(6, 5, (1, 1), (2, 2), (0, 0), (1, 1), bias=True)
LINEAR = ConvSpec(6, 5, bias=True)
GROUPED = ConvSpec(6, 4, (3, 2), (1, 1), (1, 0), (1, 1), groups=2, bias=True)
TRANSPOSED = ConvSpec(4, 5, (2, 3), (2, 1), (1, 0), (1, 1), bias=True, transposed=True, output_padding=(1, 0))
SMALL_LAYERS = {
    "3 x 3": WINDOW,
    "1 x 1": POINTWISE,
    "Linear": LINEAR,
    "width 3": ConvSpec(3, 5, (3,), (2,), (0,), (1,)),
    "3 x 2 in groups": GROUPED,
    "2 x 3 transposed": TRANSPOSED,
}

SERVED = [(fmt, name) for fmt in CONTRACT for name, spec in SMALL_LAYERS.items() if CONTRACT[fmt].refuses(spec) is None]


@st.composite
def layers(draw: st.DrawFn, matrices: bool, windows: bool, channels: tuple[int, int], groups: int) -> Case:
    """A torch layer with 0 to 3 axes, transposed or not, and an input size that it can take."""
    axes = draw(st.integers(0 if matrices else 1, 3))

    def per_axis(least: int, most: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    pointwise = matrices and (not windows or draw(st.booleans()))
    transposed = axes > 0 and draw(st.booleans())
    same = axes > 0 and not transposed and draw(st.booleans())
    apart = draw(st.integers(1, groups)) if axes else 1
    dilation, stride = per_axis(1, 2), (1,) * axes if same else per_axis(1, 2)
    spec = ConvSpec(
        apart * draw(st.integers(*channels)),
        apart * draw(st.integers(*channels)),
        (1,) * axes if pointwise else per_axis(1, 4 if axes < 3 else 3),
        stride,
        "same" if same else per_axis(0, 2),
        dilation,
        groups=apart,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
        if axes and not transposed
        else "zeros",
        transposed=transposed,
        output_padding=tuple(draw(st.integers(0, max(d, s) - 1)) for d, s in zip(dilation, stride, strict=True))
        if transposed
        else (),
    )
    spans = [step * (window - 1) + 1 for step, window in zip(dilation, spec.kernel, strict=True)]
    # 5: what padding of 2 on both sides of a transposed layer leaves of it is not empty
    return spec, tuple(
        max(span, 5 if transposed else 3) + more for span, more in zip(spans, per_axis(0, 2), strict=True)
    )


def served_by(fmt: Format) -> st.SearchStrategy[Case]:
    """Layers that the format does not refuse."""
    square = ConvSpec(4, 4, (2, 2), (1, 1), (0, 0), (1, 1))
    drawn = layers(
        matrices=fmt.refuses(ConvSpec(4, 4)) is None,
        windows=fmt.refuses(square) is None,
        # counted in digits, channels have to be some more; and then a group is all of them
        channels=(1, 4) if fmt.repeatable else (4, 9),
        groups=3 if fmt.repeatable else 1,
    )
    return drawn.filter(lambda case: fmt.refuses(case[0]) is None)


def kernel_of(stage: Stage, seed: int = 0) -> Tensor:
    """A random kernel, float64; the cores of a tensor train in one row."""
    return gaussian(*stage.weight_shape, seed=seed)


def bias_of(spec: ConvSpec) -> Tensor | None:
    """A random bias where the layer has one."""
    return gaussian(spec.out_channels, seed=1) if spec.bias else None


def image_of(spec: ConvSpec, size: tuple[int, ...], samples: int = 2) -> Tensor:
    """A random input batch."""
    return gaussian(samples, spec.in_channels, *size, seed=2)


def middle_rank(fmt: Format, spec: ConvSpec) -> tuple[int, ...]:
    """A rank half way to exactness, and small enough to be found soon."""
    return tuple(min((most + 1) // 2, 6) for most in fmt.largest_rank(spec))


def grouped(spec: ConvSpec, groups: int) -> ConvSpec:
    """The same layer in groups."""
    return replace(spec, groups=groups)
