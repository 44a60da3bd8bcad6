"""The path over ranks: every rank is answered, warm starts are starts, and the curve is that of its solutions."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
import torch

from cases import CASES, exact_rank, gaussian
from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    RankPathOptions,
    RidgeOptions,
    Solution,
    StopReason,
    cp_rank_path,
    cp_ridge,
    full_rank,
)
from polyadic.errors import DecompositionError

directions = pytest.mark.parametrize("direction", ["grow", "deflate"])
SHORT = RidgeOptions(max_sweeps=60)


def path_options(direction: Literal["grow", "deflate"]) -> RankPathOptions:
    return RankPathOptions(direction=direction, ridge=SHORT)


@directions
def test_every_rank_is_answered_once_and_in_order(direction: Literal["grow", "deflate"]) -> None:
    K = gaussian(5, 6, 7)
    path = cp_rank_path(K, [8, 2, 4, 2], path_options(direction))
    assert path.ranks == (2, 4, 8)
    for solution, error, sensitivity in zip(path.solutions, path.errors, path.sensitivities, strict=True):
        assert error == pytest.approx(float((K - solution.factors.full()).norm() / K.norm()), rel=1e-9)
        assert solution.stability is not None
        assert solution.stability.sensitivity == sensitivity


@directions
def test_the_error_falls_with_the_rank(direction: Literal["grow", "deflate"]) -> None:
    path = cp_rank_path(gaussian(6, 7, 8), range(2, 15, 3), path_options(direction))
    assert all(later < earlier for earlier, later in itertools.pairwise(path.errors))


def test_growing_takes_fewer_sweeps_than_cold_starts_and_ends_about_as_well() -> None:
    K, ranks = gaussian(9, 10, 11), [6, 10, 14, 18]
    options = RankPathOptions(reheat=4.0)
    path = cp_rank_path(K, ranks, options)
    cold = [cp_ridge(K, rank) for rank in ranks]
    assert sum(solution.sweeps for solution in path.solutions) < sum(solution.sweeps for solution in cold)
    for warm, start in zip(path.solutions, cold, strict=True):
        assert warm.relative_error < 1.05 * start.relative_error


def test_the_first_rank_is_a_cold_start() -> None:
    K = gaussian(5, 6, 7)
    first = cp_rank_path(K, [3, 5], RankPathOptions(ridge=SHORT), seed=4).solutions[0]
    alone = cp_ridge(K, 3, SHORT, seed=4)
    torch.testing.assert_close(first.factors.full(), alone.factors.full())


def test_the_smallest_rank_within_an_error_is_found() -> None:
    path = cp_rank_path(gaussian(5, 6, 7), [2, 5, 9], RankPathOptions(ridge=SHORT))
    assert path.within(1.0) is path.solutions[0]
    assert path.within(path.errors[1]) is path.solutions[1]
    assert path.within(0.0) is None


def test_ranks_that_always_suffice_are_answered_exactly() -> None:
    K = gaussian(2, 3, 4)
    enough = full_rank((2, 3, 4))
    path = cp_rank_path(K, [2, enough, enough + 3], RankPathOptions(ridge=SHORT))
    assert [solution.stop for solution in path.solutions[1:]] == [StopReason.CLOSED_FORM] * 2
    assert max(path.errors[1:]) < 1e-12


@directions
@pytest.mark.parametrize("case", CASES)
def test_difficult_tensors_pass(case: str, direction: Literal["grow", "deflate"]) -> None:
    K = CASES[case]()
    ranks = [rank for rank in (1, 2, 3) if rank < full_rank(tuple(K.shape))] or [1]
    path = cp_rank_path(K, ranks, path_options(direction))
    assert path.ranks == tuple(ranks)
    assert all(0.0 <= error <= 1.0 + 1e-9 for error in path.errors)
    assert all(bool(torch.isfinite(U).all()) for solution in path.solutions for U in solution.factors.factors)


def test_an_exact_tensor_is_still_met_beyond_its_rank() -> None:
    path = cp_rank_path(exact_rank(2), [2, 3, 4])
    assert max(path.errors) < 1e-4


def test_a_tensor_of_order_4_in_single_precision_is_served() -> None:
    path = cp_rank_path(gaussian(2, 3, 4, 5).float(), [2, 4], RankPathOptions(ridge=SHORT))
    assert path.solutions[-1].factors.factors[0].dtype == torch.float32


def test_progress_is_shown_in_the_order_of_the_work() -> None:
    seen: list[Solution[CPTensor]] = []
    cp_rank_path(gaussian(4, 5, 6), [2, 3], path_options("deflate"), progress=seen.append)
    assert [solution.factors.rank for solution in seen] == [3, 2]


@pytest.mark.parametrize("ranks", [[], [0, 2], [-1]])
def test_no_rank_and_ranks_below_1_are_refused(ranks: list[int]) -> None:
    with pytest.raises(DecompositionError, match="rank"):
        cp_rank_path(gaussian(3, 4, 5), ranks)


@pytest.mark.parametrize("wrong", [{"direction": "sideways"}, {"reheat": 0.5}])
def test_options_that_lead_nowhere_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DecompositionError, match="rank path"):
        RankPathOptions(**wrong)


def test_nan_is_refused() -> None:
    K = gaussian(3, 4, 5)
    K[0, 0, 0] = torch.nan
    with pytest.raises(DecompositionError, match="finite"):
        cp_rank_path(K, [2])
