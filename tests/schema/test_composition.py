from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from neighbours import M, S, T, answered, image, layer_of, layers, pairs
from polyadic.schema import ConvSpec, compose, is_mixing, keeps_constants, move_stride, stride_early


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(pair=st.one_of(pairs(3, 1), pairs(1, 3)))
def test_a_composed_layer_moves_positions_as_the_two_do(pair: tuple[ConvSpec, ConvSpec]) -> None:
    first, second = pair
    whole = compose(first, second)
    assume(isinstance(whole, ConvSpec))
    assert isinstance(whole, ConvSpec)
    assert (whole.in_channels, whole.out_channels) == (S, T)
    assert whole.bias == (first.bias or second.bias)
    for size in range(9, 15):
        sizes = (size,) * first.axes
        assert whole.output_size(sizes) == second.output_size(first.output_size(sizes))


@given(pair=pairs(3, 1))
def test_a_mixing_after_anything_is_one_layer_unless_strides_forbid_it(pair: tuple[ConvSpec, ConvSpec]) -> None:
    first, second = pair
    if is_mixing(second) and all(step == 1 for step in second.stride):
        assert isinstance(compose(first, second), ConvSpec)


REFUSED = {
    "two windows": (ConvSpec(S, M, (3,), (1,), (0,), (1,)), ConvSpec(M, T, (3,), (1,), (0,), (1,)), "larger window"),
    "bias before zeros": (
        ConvSpec(S, M, (1,), (1,), (0,), (1,), bias=True),
        ConvSpec(M, T, (3,), (1,), (1,), (1,)),
        "pads with zeros",
    ),
    "bias before a transposed layer": (
        ConvSpec(S, M, (1,), (1,), (0,), (1,), bias=True),
        ConvSpec(M, T, (3,), (1,), (0,), (1,), transposed=True, output_padding=(0,)),
        "unevenly",
    ),
    "stride after a transposed layer": (
        ConvSpec(S, M, (2,), (2,), (0,), (1,), transposed=True, output_padding=(0,)),
        ConvSpec(M, T, (1,), (2,), (0,), (1,)),
        "leaves positions out",
    ),
    "stride before reflection": (
        ConvSpec(S, M, (1,), (2,), (0,), (1,)),
        ConvSpec(M, T, (3,), (1,), (1,), (1,), padding_mode="reflect"),
        "copies other positions",
    ),
    "another number of axes": (ConvSpec(S, M), ConvSpec(M, T, (1,), (1,), (0,), (1,)), "different numbers of axes"),
    "uneven padding": (
        ConvSpec(S, M, (2,), (1,), "same", (1,)),
        ConvSpec(M, T, (1,), (2,), (0,), (1,)),
        "larger on one side",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_layer_is_refused_with_the_reason(case: str) -> None:
    first, second, words = REFUSED[case]
    found = compose(first, second)
    assert isinstance(found, str)
    assert words in found


def test_layers_that_do_not_meet_are_an_error() -> None:
    with pytest.raises(ValueError, match="reads what the first one writes"):
        compose(ConvSpec(2, 3), ConvSpec(4, 5))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(pair=pairs(3, 3))
def test_layers_with_their_stride_moved_answer_the_same_for_no_more_multiplications(
    pair: tuple[ConvSpec, ConvSpec],
) -> None:
    first, second = pair
    moved = move_stride(first, second)
    x = image(first)
    expected = answered(nn.Sequential(layer_of(first, 1), layer_of(second, 3)), x)
    assume(expected is not None)
    assert expected is not None
    got = nn.Sequential(layer_of(moved[0], 1), layer_of(moved[1], 3))(x)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    size = tuple(x.shape[2:])
    before = first.macs(size) + second.macs(first.output_size(size))
    after = moved[0].macs(size) + moved[1].macs(moved[0].output_size(size))
    assert after <= before


MOVED = {
    "a stride of single taps": (ConvSpec(M, T, (3, 1), (2, 2), (1, 0), (1, 1)), (1, 2), (2, 1)),
    "a stride within a dilation": (ConvSpec(M, T, (3, 3), (2, 4), (2, 2), (2, 2)), (2, 2), (1, 2)),
    "padding between the positions": (ConvSpec(M, T, (3, 3), (2, 2), (1, 2), (2, 2)), (1, 2), (2, 1)),
    "a window that reads everything": (ConvSpec(M, T, (3, 3), (2, 2), (1, 1), (1, 1)), (1, 1), (2, 2)),
}


@pytest.mark.parametrize("case", MOVED)
def test_as_much_of_a_stride_moves_as_no_tap_needs(case: str) -> None:
    second, earlier, later = MOVED[case]
    first, rest = move_stride(ConvSpec.pointwise(S, M, 2), second)
    assert (first.stride, rest.stride) == (earlier, later)


def test_a_stride_travels_to_the_front_of_a_chain() -> None:
    chain = (*(ConvSpec.pointwise(3, 3, 1) for _ in range(2)), ConvSpec(3, 5, (1,), (4,), (0,), (1,)))
    assert [stage.stride for stage in stride_early(chain) if isinstance(stage, ConvSpec)] == [(4,), (1,), (1,)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(spec=st.integers(1, 2).flatmap(lambda axes: layers(S, T, axes, 3)))
def test_constants_are_kept_where_a_constant_image_comes_out_constant(spec: ConvSpec) -> None:
    layer = layer_of(spec, 1)
    y = answered(layer, torch.ones_like(image(spec)))
    assume(y is not None and y.numel() > 0)
    assert y is not None
    constant = bool(torch.allclose(y, y.flatten(2)[..., :1].reshape(2, T, *[1] * spec.axes), atol=1e-12))
    if keeps_constants(spec):
        assert constant
    elif not spec.transposed and all(n > 2 for n in y.shape[2:]):
        assert not constant
