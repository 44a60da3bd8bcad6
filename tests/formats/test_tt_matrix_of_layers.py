"""Matrix tensor trains of layers: their modes, their names, and what their numbers mean."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.algebra import TensorTrain, covering_modes, largest_tt_ranks
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, TTMatrixFormat, contract_train, format_named, split_cores
from polyadic.formats.tt_ranks import tt_candidate_ranks, usable_ranks, widen_ranks
from polyadic.schema import ConvSpec, TTSpec


def kernel_by_digits(spec: TTSpec, row: Tensor) -> Tensor:
    """``K[x, t, s]``, entry by entry, from the numbers in their order."""
    cores, at = [], 0
    for shape in spec.core_shapes:
        cores.append(row[at : at + math.prod(shape)].reshape(shape))
        at += math.prod(shape)
    assert at == row.numel()
    K = torch.zeros(spec.dense.weight_shape, dtype=row.dtype).reshape(spec.out_channels, spec.in_channels, -1)
    for x, rows, columns in itertools.product(
        range(spec.dense.taps),
        itertools.product(*map(range, spec.row_modes)),
        itertools.product(*map(range, spec.column_modes)),
    ):
        t = s = 0
        for digit, size in zip(rows, spec.row_modes, strict=True):
            t = t * size + digit
        for digit, size in zip(columns, spec.column_modes, strict=True):
            s = s * size + digit
        if t < spec.out_channels and s < spec.in_channels:
            entry = torch.eye(1, dtype=row.dtype)
            digits = [*zip(rows, columns, strict=True)]
            for G, (i, j) in zip(cores, [(x, 0), *digits] if spec.dense.taps > 1 else digits, strict=True):
                entry = entry @ G[:, i, j]
            K[t, s, x] = entry.item()
    return K.reshape(spec.dense.weight_shape)


SPECS = [
    TTSpec(ConvSpec(5, 6, (2, 2), (1, 1), (0, 0), (1, 1)), (2, 3), (3, 2), (2, 3)),
    TTSpec(ConvSpec(7, 5), (3, 2), (2, 4), (3,)),
    TTSpec(ConvSpec(4, 3, (1,), (2,), (0,), (1,)), (3,), (4,), ()),
    TTSpec(
        ConvSpec(4, 4, (3,), (2,), (1,), (1,), transposed=True, output_padding=(1,)), (2, 2, 1), (4, 1, 1), (2, 3, 1)
    ),
]


@pytest.mark.parametrize("spec", SPECS)
def test_cores_in_a_row_are_the_kernel_digit_by_digit(spec: TTSpec) -> None:
    row = gaussian(*spec.weight_shape)
    expected = kernel_by_digits(spec, row)
    torch.testing.assert_close(contract_train(spec, split_cores(spec, row)), expected, rtol=1e-10, atol=1e-10)
    whole = FactoredKernel("tt-matrix", spec.ranks, (spec,), (row,), 0.0, "").dense_kernel()
    torch.testing.assert_close(whole, expected, rtol=1e-10, atol=1e-10)


def test_a_name_gives_the_modes_and_the_format_its_name() -> None:
    fmt = format_named("tt-matrix[4x8x4,4x4x4]")
    assert isinstance(fmt, TTMatrixFormat)
    assert (fmt.row_modes, fmt.column_modes) == ((4, 8, 4), (4, 4, 4))
    assert fmt.name == "tt-matrix[4x8x4,4x4x4]"
    assert format_named(fmt.name) == fmt
    assert format_named("tt-matrix").name == "tt-matrix"
    spec = ConvSpec(64, 128, (3, 3), (1, 1), (1, 1), (1, 1))
    (stage,) = fmt.stages(spec, (1, 2, 3))
    assert stage == TTSpec(spec, (4, 8, 4), (4, 4, 4), (1, 2, 3))


@pytest.mark.parametrize("text", ["", "4x4", "4x4,4x4,4x4", "4xa,4x4", "4x4,", "4*4,4*4"])
def test_modes_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(LayerError, match=r"written 4x8x4,4x4x4, rows first; got"):
        format_named(f"tt-matrix[{text}]")


@pytest.mark.parametrize(
    ("S", "T", "columns", "rows"),
    [
        (4, 4, (2, 2), (2, 2)),
        (64, 64, (4, 4, 4), (4, 4, 4)),
        (64, 128, (4, 4, 4), (4, 8, 4)),
        (512, 512, (4, 4, 8, 4), (4, 4, 8, 4)),
        (4096, 4096, (8, 8, 8, 8), (8, 8, 8, 8)),
        (16, 4096, (2, 2, 4), None),
    ],
)
def test_modes_are_about_five_in_two_to_four_digits(
    S: int, T: int, columns: tuple[int, ...], rows: tuple[int, ...] | None
) -> None:
    found_rows, found_columns = TTMatrixFormat().modes(ConvSpec(S, T))
    assert sorted(found_columns) == sorted(columns)
    assert sorted(found_rows) == sorted(rows or covering_modes(T, len(columns)))


sizes = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)


@given(sizes, st.data())
@settings(max_examples=60)
def test_usable_ranks_are_the_most_that_a_train_of_these_can_have(shape: tuple[int, ...], data: st.DataObject) -> None:
    wanted = tuple(data.draw(st.integers(1, 30)) for _ in shape[1:])
    usable = usable_ranks(wanted, shape)
    before = 1
    for k, r in enumerate(usable):
        assert r == min(wanted[k], before * shape[k], math.prod(shape[k + 1 :]))
        before = r
    assert usable_ranks(largest_tt_ranks(shape), shape) == largest_tt_ranks(shape)


@given(sizes, st.data())
def test_a_widened_train_is_the_same_tensor(shape: tuple[int, ...], data: st.DataObject) -> None:
    ranks = tuple(data.draw(st.integers(1, 3)) for _ in shape[1:])
    bonds = (1, *ranks, 1)
    train = TensorTrain(tuple(gaussian(bonds[k], n, bonds[k + 1], seed=k) for k, n in enumerate(shape)))
    wider = tuple(r + data.draw(st.integers(0, 3)) for r in ranks)
    grown = widen_ranks(train, wider)
    assert grown.ranks == wider
    torch.testing.assert_close(grown.full(), train.full(), rtol=1e-12, atol=1e-12)


@given(sizes)
def test_candidates_rise_in_numbers_to_the_largest_ranks(shape: tuple[int, ...]) -> None:
    candidates = tt_candidate_ranks(gaussian(*shape))
    assert candidates[-1] == largest_tt_ranks(shape)
    numbers = [
        sum(left * size * right for left, size, right in zip((1, *ranks), shape, (*ranks, 1), strict=True))
        for ranks in candidates
    ]
    assert all(lower < higher for lower, higher in itertools.pairwise(numbers))


def test_candidates_leave_out_ranks_that_cheaper_ones_beat() -> None:
    # the first cut is of rank 2 and the second one falls off slowly: a third row there would only cost numbers
    left, right = gaussian(9, 2, seed=1), gaussian(2, 30, 40, seed=2)
    candidates = tt_candidate_ranks(torch.einsum("ir,rjk->ijk", left, right))
    assert all(ranks[0] <= 2 for ranks in candidates[:-1])
    assert len(candidates) > 10
