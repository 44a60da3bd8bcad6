"""A layer in integers: sizes, parameters, multiply-accumulates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cases import gaussian
from polyadic import layers
from polyadic.layers import plain_layer
from polyadic.schema import ConvSpec, LayerSite, chain_macs, chain_params


@st.composite
def grouped_layers(draw: st.DrawFn) -> tuple[ConvSpec, tuple[int, ...]]:
    """Any plain convolution with numeric padding, and an input size that it can take."""
    axes = draw(st.integers(1, 3))

    def per_axis(least: int, most: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    groups, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    channels = [groups * draw(st.integers(1, 3)) for _ in range(2)]
    kernel, dilation, stride = per_axis(1, 4), per_axis(1, 2), per_axis(1, 3)
    bounds = [max(pair) - 1 for pair in zip(dilation, stride, strict=True)]
    extra = tuple(draw(st.integers(0, bound)) for bound in bounds) if transposed else ()
    spec = ConvSpec(
        *channels, kernel, stride, per_axis(0, 2), dilation, groups, draw(st.booleans()),
        transposed=transposed, output_padding=extra,
    )  # fmt: skip
    least = 5 if transposed else 1  # padding of 2 takes 4 away
    size = tuple(
        max(d * (k - 1) + 1, least) + more for d, k, more in zip(dilation, kernel, per_axis(0, 4), strict=True)
    )
    return spec, size


@given(grouped_layers())
def test_sizes_parameters_and_macs_are_those_of_torch(case: tuple[ConvSpec, tuple[int, ...]]) -> None:
    spec, size = case
    layer = plain_layer(spec, dtype=torch.float64)
    nn.init.zeros_(layer.get_parameter("weight"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        y = layer(gaussian(1, spec.in_channels, *size))
    assert y.shape == (1, spec.out_channels, *spec.output_size(size))
    assert spec.macs(size) == counter.get_total_flops() // 2
    assert spec.params == sum(p.numel() for p in layer.parameters())
    kernel = layers.kernel_of(layer.get_parameter("weight"), spec)
    assert spec.weight_shape == tuple(kernel.shape)


@given(grouped_layers(), st.integers(2, 3))
def test_one_group_and_that_many_of_it_are_the_layer(case: tuple[ConvSpec, tuple[int, ...]], groups: int) -> None:
    spec, size = case
    one = spec.one_group
    assert (one.groups, one.in_channels, one.out_channels) == (
        1, spec.in_channels // spec.groups, spec.out_channels // spec.groups)  # fmt: skip
    assert one.repeated(spec.groups) == spec
    assert one.repeated(groups).repeated(2) == one.repeated(2 * groups)
    many = one.repeated(groups)
    assert (many.macs(size), many.params) == (groups * one.macs(size), groups * one.params)
    assert many.output_size(size) == one.output_size(size)


@given(grouped_layers())
def test_parts_along_the_axes_move_positions_as_the_layer_does(case: tuple[ConvSpec, tuple[int, ...]]) -> None:
    spec, size = case
    one, seen = spec.one_group, size
    for axis in range(spec.axes):
        part = one.along([axis], 2, 3)
        assert (part.in_channels, part.out_channels, part.bias, part.groups) == (2, 3, False, 1)
        assert part.taps == spec.kernel[axis]
        assert all(after == before for other, (after, before) in enumerate(
            zip(part.output_size(seen), seen, strict=True)) if other != axis)  # fmt: skip
        seen = part.output_size(seen)
    assert seen == spec.output_size(size)
    whole = one.along(range(spec.axes), one.in_channels, one.out_channels)
    assert whole == replace(one, bias=False)


def test_a_linear_layer_counts_once_per_position() -> None:
    spec = ConvSpec(6, 4, bias=True)
    assert (spec.axes, spec.taps, spec.params) == (0, 1, 28)
    assert (spec.macs(()), spec.macs((7,)), spec.macs((7, 3))) == (24, 7 * 24, 21 * 24)
    assert spec.output_size((7,)) == (7,)


def test_same_padding_keeps_the_size() -> None:
    spec = ConvSpec(1, 1, (3, 4), (1, 1), "same", (1, 2))
    assert spec.output_size((9, 11)) == (9, 11)
    assert spec.macs((9, 11)) == 99 * 12


@pytest.mark.parametrize("field", ["stride", "padding", "dilation"])
def test_geometry_with_the_wrong_number_of_axes_is_refused(field: str) -> None:
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    with pytest.raises(ValueError, match="one value for each of 2 axes"):
        ConvSpec(1, 1, (3, 3), **{**geometry, field: (1,)})


def test_output_padding_is_for_every_axis_of_a_transposed_layer() -> None:
    with pytest.raises(ValueError, match="one value for each of 2 axes"):
        ConvSpec(1, 1, (3, 3), (1, 1), (0, 0), (1, 1), transposed=True, output_padding=(0,))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": 2}, "groups divide the channels; got 2 groups of 3 and 4"),
        ({"groups": 0}, "groups divide the channels; got 0"),
        ({"padding": "same", "stride": (2,)}, "'same' is for stride 1"),
        ({"padding": "same", "transposed": True, "output_padding": (0,)}, "layers that are not transposed"),
        ({"padding_mode": "mirror"}, "zeros, reflect, replicate, circular, .*got 'mirror'"),
        ({"padding_mode": "reflect", "transposed": True, "output_padding": (0,)}, "zeros in a transposed layer"),
    ],
)
def test_what_torch_does_not_build_is_refused(wrong: dict[str, object], message: str) -> None:
    given = {"kernel": (3,), "stride": (1,), "padding": (1,), "dilation": (1,), **wrong}
    with pytest.raises(ValueError, match=message):
        ConvSpec(3, 4, **given)


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_a_pointwise_layer_keeps_every_size(axes: int) -> None:
    spec = ConvSpec.pointwise(3, 5, axes, bias=True)
    assert spec.output_size((4,) * axes) == (4,) * axes
    assert (spec.params, spec.macs((4,) * axes)) == (20, 15 * 4**axes)


def test_a_chain_adds_its_stages_at_the_sizes_that_they_see() -> None:
    stages = (ConvSpec.pointwise(4, 2, 2), ConvSpec(2, 3, (3, 3), (2, 2), (1, 1), (1, 1), bias=True))
    assert chain_params(stages) == 8 + 54 + 3
    assert chain_macs(stages, (8, 8)) == 64 * 8 + 16 * 54
    assert (chain_params(()), chain_macs((), (8, 8))) == (0, 0)


def test_a_site_counts_every_call_of_its_layer() -> None:
    spec = ConvSpec(2, 3, (3, 3), (1, 1), (1, 1), (1, 1))
    site = LayerSite("shared", "Conv2d", spec, ((8, 8), (4, 4)))
    assert (site.params, site.macs) == (54, 54 * (64 + 16))
    assert site.chain_macs((ConvSpec.pointwise(2, 3, 2),)) == 6 * (64 + 16)


def test_a_site_of_unknown_geometry_counts_nothing() -> None:
    site = LayerSite("odd", "Bilinear", None, reason="not a convolution")
    assert (site.params, site.macs) == (0, 0)
