from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import gaussian
from oracles import dense_layer
from polyadic.formats import format_named
from polyadic.formats.separable import along_axes, window_axes
from polyadic.layers import filled_chain
from polyadic.schema import ConvSpec, chain_macs

SEPARABLE = ("cp4-epc", "spatial-svd", "tt")


@st.composite
def uneven(draw: st.DrawFn) -> ConvSpec:
    """A layer over two or three axes with other windows and strides along each."""
    axes = draw(st.integers(2, 3))
    kernel = draw(st.tuples(*[st.integers(2, 5)] * axes))
    transposed = draw(st.booleans())
    return ConvSpec(
        3,
        4,
        kernel,
        draw(st.tuples(*[st.integers(1, 3)] * axes)),
        (0,) * axes,
        (1,) * axes,
        transposed=transposed,
        output_padding=(0,) * axes if transposed else (),
    )


@given(spec=uneven())
def test_no_other_order_of_the_stages_costs_less(spec: ConvSpec) -> None:
    def cost(order: tuple[int, ...]) -> float:
        """Taps at every position of a large image, relative to its positions."""
        positions, total = 1.0, 0.0
        for axis in order:
            change = spec.stride[axis] if spec.transposed else 1 / spec.stride[axis]
            total += spec.kernel[axis] * positions * (1.0 if spec.transposed else change)
            positions *= change
        return total

    best = min(cost(order) for order in itertools.permutations(range(spec.axes)))
    assert math.isclose(cost(window_axes(spec)), best)


def test_a_stage_that_strides_comes_first() -> None:
    spec = ConvSpec(8, 8, (3, 3), (1, 2), (1, 1), (1, 1))
    for name in SEPARABLE:
        fmt = format_named(name)
        rank = tuple(4 for _ in fmt.largest_rank(spec))
        turned = replace(spec, stride=(2, 1))
        # what is along the rows in one is along the columns in the other
        assert chain_macs(fmt.stages(spec, rank), (20, 20)) == chain_macs(fmt.stages(turned, rank), (20, 20))


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("transposed", [False, True])
def test_chains_in_another_order_are_the_layer_at_the_largest_rank(name: str, transposed: bool) -> None:
    stride = (2, 1, 3) if transposed else (1, 3, 2)
    extra = (0, 0, 0) if transposed else ()
    spec = ConvSpec(2, 2, (2, 2, 2), stride, (1, 1, 1), (1, 1, 1), 1, True, "zeros", transposed, extra)
    assert window_axes(spec) != (0, 1, 2)
    kernel, bias, x = gaussian(*spec.weight_shape), gaussian(2, seed=1), gaussian(2, 2, 6, 5, 7, seed=2)
    fmt = format_named(name)
    chain = filled_chain(fmt.factorise(kernel, spec, fmt.largest_rank(spec)), bias, kernel)
    torch.testing.assert_close(chain(x), dense_layer(spec, kernel, bias)(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["tucker2", "cp-epc", "tkd-cpd-epc", "cp4-epc", "tt"])
def test_the_first_mixing_strides_along_axes_of_one_tap(name: str) -> None:
    spec = ConvSpec(6, 7, (3, 1, 2), (1, 2, 1), (1, 0, 0), (1, 1, 1))
    fmt = format_named(name)
    rank = tuple(2 for _ in fmt.largest_rank(spec))
    strides = [stage.stride for stage in fmt.stages(spec, rank) if isinstance(stage, ConvSpec)]
    assert strides[0] == (1, 2, 1)
    assert all(step == (1, 1, 1) for step in strides[1:])


@given(axes=st.permutations(range(3)))
@settings(max_examples=6)
def test_axes_of_a_kernel_are_turned_into_the_order_asked_for(axes: list[int]) -> None:
    kernel = gaussian(2, 3, 2, 3, 4)
    turned = along_axes(kernel, tuple(axes))
    for index in itertools.product(range(2), range(3), range(4)):
        assert torch.equal(turned[:, :, *(index[axis] for axis in axes)], kernel[:, :, *index])
    assert torch.equal(along_axes(kernel[:, :, :1], (2, 1)), kernel[:, :, 0].mT)
