"""Greedy deflation: optimal for one term and for matrices, not for tensors."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from solvers import is_monotone
from torch import Tensor

from cases import CASES, exact_rank, gaussian, gaussian_cp, unit
from polyadic.decomposition import (
    ALSOptions,
    DeflationOptions,
    LMOptions,
    StopReason,
    cp_als,
    cp_deflation,
    cp_lm,
)
from polyadic.errors import DecompositionError

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
QUICK = DeflationOptions(starts=2, max_sweeps=20)


def hyperdeterminant(X: Tensor) -> float:
    """Cayley's, of a 2 x 2 x 2 tensor: positive for rank 2, negative for rank 3; 0 between."""
    first, second = X[0], X[1]
    mixed = torch.linalg.det(first + second) - torch.linalg.det(first) - torch.linalg.det(second)
    return float(mixed**2 - 4.0 * torch.linalg.det(first) * torch.linalg.det(second))


@settings(max_examples=12)
@given(SHAPES, st.integers(1, 5), st.integers(0, 1000))
def test_the_error_falls_with_every_term_and_is_the_one_reported(shape: tuple[int, ...], R: int, seed: int) -> None:
    K = gaussian(*shape, seed=seed)
    solution = cp_deflation(K, R, QUICK, seed=seed)
    assert is_monotone(solution.history)
    assert len(solution.history) == solution.sweeps <= R
    assert solution.factors.rank == R
    for r, error in enumerate(solution.history, start=1):
        first = [U[:, :r] for U in solution.factors.factors]
        letters = "ijklm"[: len(shape)]
        sum_of_terms = torch.einsum(",".join(f"{letter}r" for letter in letters) + "->" + letters, *first)
        assert error == pytest.approx(float((K - sum_of_terms).norm() / K.norm()), abs=1e-7)


@pytest.mark.parametrize(("shape", "mode"), [((5, 6, 1), 2), ((1, 6, 5), 0), ((5, 1, 6, 1), 1)])
def test_a_matrix_in_disguise_gets_its_truncated_svd(shape: tuple[int, ...], mode: int) -> None:
    K = gaussian(*shape)
    values = torch.linalg.svdvals(K.squeeze())
    solution = cp_deflation(K, 3, DeflationOptions(max_sweeps=500, tolerance=1e-14))
    expected = [float((values[r:].square().sum() / values.square().sum()).sqrt()) for r in (1, 2, 3)]
    assert list(solution.history) == pytest.approx(expected, rel=1e-4)
    assert solution.factors.factors[mode].shape == (shape[mode], 3)


def test_the_first_term_is_the_best_of_many_least_squares_runs() -> None:
    K = gaussian(3, 4, 5)
    best = min(cp_als(K, 1, ALSOptions(max_sweeps=300), seed=seed).relative_error for seed in range(20))
    assert cp_deflation(K, 1).relative_error == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subtracting_a_best_term_raises_the_rank_of_a_2_x_2_x_2_tensor(seed: int) -> None:
    """Stegeman and Comon 2010: from rank 2 to the boundary of rank 3, with all multilinear ranks still 2."""
    K = unit(gaussian_cp((2, 2, 2), 2, seed).full())
    assert hyperdeterminant(K) > 1e-4
    first = cp_deflation(K, 1, DeflationOptions(max_sweeps=2000, tolerance=1e-16)).factors
    left = K - first.full()
    assert abs(hyperdeterminant(left)) < 1e-7
    smallest = [float(torch.linalg.svdvals(left.movedim(mode, 0).flatten(1))[-1]) for mode in range(3)]
    assert min(smallest) > 1e-3


def test_it_does_not_find_the_rank_that_a_joint_fit_finds() -> None:
    K = exact_rank(3)
    assert cp_lm(K, 3, LMOptions()).relative_error < 1e-6
    greedy = cp_deflation(K, 3)
    assert greedy.relative_error > 0.01
    assert cp_deflation(K, 8).relative_error > 1e-4


@pytest.mark.parametrize("case", CASES)
def test_difficult_tensors_are_served(case: str) -> None:
    K = CASES[case]()
    solution = cp_deflation(K, 3, QUICK)
    assert all(bool(torch.isfinite(U).all()) for U in solution.factors.factors)
    assert is_monotone(solution.history)
    assert solution.factors.rank == 3
    assert 0.0 <= solution.relative_error <= 1.0


def test_once_nothing_is_left_the_other_terms_are_zero() -> None:
    solution = cp_deflation(7.0 * exact_rank(1), 4)
    assert solution.sweeps == 1
    assert solution.relative_error < 1e-7
    assert not any(U[:, 1:].any() for U in solution.factors.factors)


def test_a_term_that_was_cut_short_is_reported() -> None:
    K = gaussian(4, 5, 6)
    assert cp_deflation(K, 2, DeflationOptions(max_sweeps=1)).stop is StopReason.MAX_SWEEPS
    assert cp_deflation(K, 2, DeflationOptions(max_sweeps=1000)).stop is StopReason.CONVERGED


def test_terms_do_not_depend_on_how_many_follow() -> None:
    K = gaussian(4, 5, 6)
    few, many = (cp_deflation(K, R) for R in (2, 4))
    assert many.history[:2] == few.history
    assert all(later < earlier for earlier, later in itertools.pairwise(many.history))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: cp_deflation(gaussian(3, 4, 5), 0), "positive whole number; got 0"),
        (lambda: cp_deflation(gaussian(3, 4), 1), "order 3"),
        (lambda: cp_deflation(gaussian(3, 4, 5) * torch.nan, 1), "60 of 60 NaN"),
        (lambda: DeflationOptions(starts=0), "at least one start"),
        (lambda: DeflationOptions(max_sweeps=0), "got 5 and 0"),
    ],
    ids=["rank 0", "order 2", "NaN", "no start", "no sweep"],
)
def test_what_cannot_be_deflated_is_refused(request_: object, message: str) -> None:
    with pytest.raises(DecompositionError, match=message):
        request_()  # type: ignore[operator]
