"""Alternating least squares: monotone, exact where it should be, and degenerate where it must be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, border_rank, exact_rank, gaussian
from polyadic.algebra import CP
from polyadic.decomposition import ALSOptions, Solution, StopReason, cp_als
from polyadic.decomposition.cp_init import initial_cp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import parafac

NEVER = -1.0  # a tolerance that no sweep falls short of
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


def rises(solution: Solution[CP]) -> bool:
    """Whether the squared error grows from one sweep to the next by more than the rounding of its largest term."""
    growth = np.diff(np.square(solution.history)).max(initial=-np.inf)
    return bool(growth > 1e-14 * max(1.0, solution.stability.sum_squared_intensity))


@given(SHAPES, st.integers(1, 8), st.integers(0, 1000))
def test_the_error_never_rises(shape: tuple[int, ...], rank: int, seed: int) -> None:
    solution = cp_als(gaussian(*shape, seed=seed), rank, ALSOptions(max_sweeps=40, tolerance=NEVER), seed=seed)
    assert not rises(solution)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("init", ["random", "singular"])
def test_the_error_never_rises_on_difficult_tensors(case: str, init: str) -> None:
    solution = cp_als(CASES[case](), 3, ALSOptions(max_sweeps=200, tolerance=NEVER, init=init))
    assert not rises(solution)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_tensor_of_exact_rank_is_recovered(rank: int) -> None:
    solution = cp_als(exact_rank(rank), rank, ALSOptions(max_sweeps=2000, tolerance=1e-22, starts=5))
    assert solution.relative_error < 1e-7  # squared errors are computed to 1e-16
    assert solution.stop is StopReason.CONVERGED


@pytest.mark.parametrize("case", ["full rank", "rank plus noise", "collinear swamp", "1-wide second mode"])
@pytest.mark.parametrize("rank", [1, 3])
def test_equal_sweeps_from_one_start_give_the_error_of_tensorly(case: str, rank: int) -> None:
    K = CASES[case]()
    unit = K / K.norm()
    start = [U.numpy().copy() for U in initial_cp(unit, rank, "random", seed=0).factors]
    theirs = parafac(unit.numpy(), rank, n_iter_max=25, init=CPTensor((None, start)), tol=0)
    expected = np.linalg.norm(unit.numpy() - theirs.to_tensor())
    ours = cp_als(K, rank, ALSOptions(max_sweeps=25, tolerance=NEVER))
    assert ours.relative_error <= expected + 1e-7


def test_terms_of_a_border_rank_tensor_grow_without_end() -> None:
    growth = [
        cp_als(border_rank(), 2, ALSOptions(max_sweeps=sweeps, tolerance=NEVER)).stability.sum_squared_intensity
        for sweeps in (10, 100, 1000)
    ]
    assert growth[1] > 1.5 * growth[0]
    assert growth[2] > 1.5 * growth[1]


def test_growing_terms_under_a_stalled_error_are_called_diverging() -> None:
    solution = cp_als(border_rank(noise=0.03), 2, ALSOptions(max_sweeps=3000, tolerance=NEVER))
    assert solution.stop is StopReason.DIVERGING
    assert "cp-epc" in solution.stop.value


def test_a_quick_convergence_is_not_called_diverging() -> None:
    """A matrix in disguise: its terms grow in the first sweeps and cancel, but then they stand still."""
    solution = cp_als(gaussian(4, 5, 1, seed=84), 3, seed=84)
    assert solution.sweeps < 100
    assert solution.stability.sum_squared_intensity > 100.0
    assert solution.stop is StopReason.CONVERGED


def test_terms_beyond_the_rank_of_a_matrix_stay_bounded() -> None:
    """A singular Gram that Cholesky just accepts once gave terms 10^5 times larger than the tensor."""
    solution = cp_als(gaussian(1, 2, 2, seed=1), 3, ALSOptions(max_sweeps=40, tolerance=NEVER), seed=1)
    assert solution.relative_error < 1e-10
    assert solution.stability.sum_squared_intensity < 100.0


def test_more_starts_do_not_end_worse_than_the_first_ten_sweeps_of_any() -> None:
    K = gaussian(4, 5, 6)
    singles = [cp_als(K, 4, ALSOptions(max_sweeps=10, tolerance=NEVER), seed=seed) for seed in range(4)]
    several = cp_als(K, 4, ALSOptions(max_sweeps=10, tolerance=NEVER, starts=4), seed=0)
    assert several.relative_error == pytest.approx(min(single.relative_error for single in singles), rel=1e-10)


@given(SHAPES, st.integers(1, 8), st.sampled_from(["random", "singular"]))
def test_a_start_has_the_norm_of_the_tensor(shape: tuple[int, ...], rank: int, init: str) -> None:
    K = gaussian(*shape)
    start = initial_cp(K, rank, init, seed=0)
    assert (start.shape, start.rank) == (shape, rank)
    assert float(start.full().norm()) == pytest.approx(float(K.norm()), rel=1e-10)


def test_a_singular_start_spans_the_leading_singular_vectors() -> None:
    K = gaussian(4, 5, 6)
    for mode, U in enumerate(initial_cp(K, 3, "singular", seed=0).factors):
        vectors = torch.linalg.svd(K.movedim(mode, 0).flatten(1))[0][:, :3]
        overlap = (vectors.mT @ (U / U.norm(dim=0))).abs()
        torch.testing.assert_close(overlap, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-8)
