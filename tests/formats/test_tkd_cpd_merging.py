"""TKD-CPD: each side's two 1 x 1 stages are merged unless they hold fewer weights apart."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import gaussian
from polyadic.formats import TKDCPDFormat
from polyadic.formats.tkd_cpd import splits
from polyadic.schema import ConvSpec, chain_params


def layer(S: int, T: int) -> ConvSpec:
    return ConvSpec(S, T, (3, 3), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("rank", "channels"),
    [
        ((4, 4, 32), [(16, 4), (4, 32), (32, 32), (32, 4), (4, 20)]),  # 4 (16 + 32) < 16 x 32, 4 (20 + 32) < 20 x 32
        ((4, 16, 32), [(16, 4), (4, 32), (32, 32), (32, 20)]),  # 16 (20 + 32) > 20 x 32
        ((12, 4, 32), [(16, 32), (32, 32), (32, 4), (4, 20)]),  # 12 (16 + 32) > 16 x 32
        ((12, 16, 32), [(16, 32), (32, 32), (32, 20)]),
        ((4, 4, 5), [(16, 5), (5, 5), (5, 20)]),  # R above R1 and R2 is not enough: 4 (16 + 5) > 16 x 5
    ],
)
def test_each_side_is_split_on_its_own(rank: tuple[int, int, int], channels: list[tuple[int, int]]) -> None:
    stages = TKDCPDFormat().stages(layer(16, 20), rank)
    assert [(stage.in_channels, stage.out_channels) for stage in stages] == channels
    assert [stage.groups for stage in stages].count(rank[2]) == 1


def test_equal_cost_is_merged_for_fewer_layers() -> None:
    assert not splits(4, 2, 4)  # 2 (4 + 4) = 4 x 4
    assert splits(5, 2, 4)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.data())
def test_no_other_way_of_merging_holds_fewer_weights(S: int, T: int, R: int, data: st.DataObject) -> None:
    R1, R2 = data.draw(st.tuples(st.integers(1, S), st.integers(1, T)))
    sides = [(S * R, R1 * (S + R)), (T * R, R2 * (T + R))]
    least = min(first + last for first, last in itertools.product(*sides)) + 9 * R
    assert chain_params(TKDCPDFormat().stages(layer(S, T), (R1, R2, R))) == least


@pytest.mark.parametrize("rank", [(2, 2, 9), (2, 6, 9), (6, 2, 9), (6, 6, 9)])
def test_merged_and_split_chains_of_the_same_factors_have_the_same_kernel(rank: tuple[int, int, int]) -> None:
    fmt, spec = TKDCPDFormat(), layer(6, 6)
    kernel = gaussian(*spec.weight_shape)
    factored = fmt.factorise(kernel, spec, rank)
    solution = fmt.solve(kernel, spec, rank, seed=0)
    expected = solution.factors.full().permute(2, 1, 0).reshape(kernel.shape)
    torch.testing.assert_close(factored.dense_kernel(), expected, rtol=1e-10, atol=1e-10)
    assert factored.relative_error == pytest.approx(solution.relative_error, abs=1e-10)


def test_candidates_keep_the_tucker_ranks_that_the_bound_asks_for() -> None:
    spec, kernel = layer(6, 5), gaussian(5, 6, 3, 3)
    exact, loose = (TKDCPDFormat(tucker_error=error).candidate_ranks(kernel, spec) for error in (0.0, 0.7))
    assert {rank[:2] for rank in exact} == {(6, 5)}
    ((R1, R2),) = {rank[:2] for rank in loose}
    assert R1 * R2 < 30
    assert [rank[2] for rank in loose] == list(range(1, len(loose) + 1))
