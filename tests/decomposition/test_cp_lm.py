"""Levenberg-Marquardt: monotone in its objective, exact where it should be, faster than ALS in a swamp."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from cases import CASES, SHAPE, collinear_swamp, exact_rank, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import ALSOptions, LMOptions, RidgeOptions, StopReason, cp_als, cp_lm, cp_ridge

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)


def objective(K: torch.Tensor, cp: CPTensor, mu: float) -> float:
    """``||X - X^||^2 + mu * sensitivity`` of the factors of ``K / ||K||``, with the tensor formed."""
    norm = float(K.norm())
    unit = cp.scaled(1.0 / norm) if norm > 0 else cp
    return float((K / max(norm, 1e-300) - unit.full()).square().sum()) + mu * oracles.sensitivity(unit.rescaled())


@given(SHAPES, st.integers(1, 5), st.integers(0, 1000))
def test_without_a_penalty_the_error_never_rises(shape: tuple[int, ...], R: int, seed: int) -> None:
    solution = cp_lm(gaussian(*shape, seed=seed), R, LMOptions(max_steps=15), seed=seed)
    assert np.diff(np.square(solution.history)).max(initial=0.0) <= 1e-13


@pytest.mark.parametrize("case", CASES)
def test_the_error_never_rises_on_difficult_tensors(case: str) -> None:
    solution = cp_lm(CASES[case](), 3, LMOptions(max_steps=40))
    assert np.diff(np.square(solution.history)).max(initial=0.0) <= 1e-13
    assert solution.relative_error <= 1.0 + 1e-12


@pytest.mark.parametrize("mu", [1e-2, 1e-4])
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 2, 4, 3)])
def test_the_penalised_objective_never_rises(mu: float, shape: tuple[int, ...]) -> None:
    K = 4.0 * gaussian(*shape)
    values = [objective(K, cp_lm(K, 4, LMOptions(mu=mu, max_steps=steps)).factors, mu) for steps in (1, 2, 4, 8, 16)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_tensor_of_exact_rank_is_recovered(rank: int) -> None:
    solution = cp_lm(exact_rank(rank), rank)
    assert solution.relative_error < 1e-8
    assert solution.sweeps < 60
    assert solution.stop is StopReason.CONVERGED


def test_an_order_4_tensor_of_exact_rank_is_recovered() -> None:
    solution = cp_lm(gaussian_cp((3, 4, 3, 5), 4, seed=5).full(), 4)
    assert solution.relative_error < 1e-8


@pytest.mark.parametrize("seed", [0, 2])
def test_in_a_swamp_its_steps_beat_five_times_as_many_sweeps_of_als(seed: int) -> None:
    K = collinear_swamp()
    steps = cp_lm(K, 3, LMOptions(max_steps=100, tolerance=0.0), seed=seed)
    sweeps = cp_als(K, 3, ALSOptions(max_sweeps=500, tolerance=-1.0), seed=seed)
    assert steps.relative_error < 0.5 * sweeps.relative_error


@pytest.mark.parametrize("mu", [1e-2, 1e-3])
def test_it_ends_where_the_ridge_sweeps_end(mu: float) -> None:
    """The same objective by another method: from one ridge solution it finds nothing more."""
    K = gaussian(4, 5, 6)
    ridge = cp_ridge(K, 3, RidgeOptions(strongest=mu, weakest=mu, max_sweeps=3000, tolerance=1e-14))
    again = cp_lm(K, 3, LMOptions(mu=mu, tolerance=1e-12), start=ridge.factors)
    assert objective(K, again.factors, mu) == pytest.approx(objective(K, ridge.factors, mu), rel=1e-8)


def test_a_start_of_its_own_is_taken_and_not_made_worse() -> None:
    K = gaussian(*SHAPE)
    start = cp_als(K, 4, ALSOptions(max_sweeps=5, tolerance=-1.0))
    one_step = cp_lm(K, 4, LMOptions(max_steps=1), start=start.factors)
    assert one_step.relative_error <= start.relative_error + 1e-12
    assert one_step.relative_error > 0.5 * start.relative_error
    assert one_step.stop is StopReason.MAX_SWEEPS
