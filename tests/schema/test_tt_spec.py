"""A tensor-train layer in integers."""

from __future__ import annotations

import dataclasses

import pytest

from polyadic.schema import ConvSpec, Rank, TTSpec, chain_macs, chain_params

WINDOW = ConvSpec(4, 6, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
LINEAR = ConvSpec(5, 7)
CONV = TTSpec(WINDOW, (2, 3), (2, 2), (2, 3))
FULLY = TTSpec(LINEAR, (2, 4), (2, 3), (3,))


def test_cores_have_the_modes_and_ranks_and_the_window_comes_first() -> None:
    assert CONV.core_shapes == ((1, 9, 1, 2), (2, 2, 2, 3), (3, 3, 2, 1))
    assert FULLY.core_shapes == ((1, 2, 2, 3), (3, 4, 3, 1))
    assert CONV.weight_shape == (18 + 24 + 18,)
    assert (CONV.params, FULLY.params) == (60 + 6, 12 + 36)
    assert chain_params((CONV, FULLY)) == 66 + 48


def test_what_it_stands_for_is_the_dense_layer() -> None:
    assert (CONV.in_channels, CONV.out_channels, CONV.axes, CONV.groups, CONV.bias) == (4, 6, 2, 1, True)
    assert CONV.output_size((8, 5)) == WINDOW.output_size((8, 5))
    assert (FULLY.axes, FULLY.bias, FULLY.windowed, CONV.windowed) == (0, False, False, True)


def test_macs_are_counted_step_by_step() -> None:
    """From the window on: 2 filters of 9 taps on 4 channels; 2 * 2 * 2 * 3 for each of 2 digits; 18 for 2 rows."""
    at_each = 4 * 2 * 9 + 24 * 2 + 18 * 2
    assert CONV.in_way("cores").macs((5, 5)) == 25 * at_each
    assert CONV.in_way("dense").macs((5, 5)) == WINDOW.macs((5, 5)) == 25 * 216
    assert CONV.macs((5, 5)) == 25 * min(at_each, 216)
    assert chain_macs((CONV.in_way("cores"), ConvSpec.pointwise(6, 2, 2)), (5, 5)) == 25 * at_each + 25 * 12


def test_a_stride_is_met_where_it_costs_least() -> None:
    """Few outputs per input: the cores of the channels would rather see the positions after the window."""
    dense = ConvSpec(4, 4, (3, 3), (2, 2), (1, 1), (1, 1))
    spec = TTSpec(dense, (2, 2), (2, 2), (4, 4))
    assert spec.window_first
    spread = dataclasses.replace(dense, transposed=True, output_padding=(1, 1))
    assert not TTSpec(spread, (2, 2), (2, 2), (4, 4)).window_first


@pytest.mark.parametrize(
    ("dense", "moves"),
    [
        (ConvSpec(4, 4), False),
        (ConvSpec.pointwise(4, 4, 2), False),
        (ConvSpec(4, 4, (1,), (2,), (0,), (1,)), True),
        (ConvSpec(4, 4, (1,), (1,), (1,), (1,)), True),
        (ConvSpec(4, 4, (1,), (1,), "same", (1,)), False),
        (ConvSpec(4, 4, (1,), (1,), (0,), (2,), transposed=True, output_padding=(1,)), True),
        (ConvSpec(4, 4, (3,), (2,), (0,), (1,)), False),
    ],
)
def test_one_tap_moves_positions_by_stride_and_padding_alone(dense: ConvSpec, moves: bool) -> None:
    bonds = (2, 2) if dense.taps > 1 else (2,)
    assert TTSpec(dense, (2, 2), (2, 2), bonds).moves == moves


@pytest.mark.parametrize(
    ("dense", "rows", "columns", "ranks", "message"),
    [
        (WINDOW, (2, 2), (2, 2), (2, 3), r"row modes multiply to T = 6 or more.*got \(2, 2\)"),
        (WINDOW, (2, 3), (3, 1), (2, 3), r"column modes to S = 4 or more; got \(2, 3\) and \(3, 1\)"),
        (WINDOW, (2, 3), (4,), (2, 3), "as many column modes"),
        (WINDOW, (), (), (), "as many column modes"),
        (WINDOW, (-2, -3), (2, 2), (2, 3), "row modes multiply"),
        (WINDOW, (2, 3), (2, 2), (3,), r"take 2 ranks; got \(3,\)"),
        (LINEAR, (2, 4), (2, 3), (2, 3), r"take 1 ranks; got \(2, 3\)"),
        (LINEAR, (2, 4), (2, 3), (0,), r"take 1 ranks; got \(0,\)"),
        (dataclasses.replace(WINDOW, groups=2), (2, 3), (2, 2), (2, 3), "one group of channels; got groups = 2"),
    ],
)
def test_modes_and_ranks_that_do_not_fit_are_refused(
    dense: ConvSpec, rows: Rank, columns: Rank, ranks: Rank, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TTSpec(dense, rows, columns, ranks)


def test_two_ways_of_one_layer_are_two_values() -> None:
    assert CONV.in_way("dense") != CONV.in_way("cores")
    assert CONV.in_way("auto") == CONV
    assert len({CONV, CONV.in_way("auto"), CONV.in_way("cores")}) == 2
    CONV.macs((5, 5))  # what it remembers is no part of its value
    assert TTSpec(**{field.name: getattr(CONV, field.name) for field in dataclasses.fields(CONV)}) == CONV
