"""The penalised homotopy: its objective at a fixed penalty, and where its path ends."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, gaussian
from polyadic.algebra import CP
from polyadic.decomposition import RidgeOptions, StopReason, cp_ridge
from polyadic.decomposition.alternation import sweep, unit_tensor
from polyadic.decomposition.cp_init import initial_cp
from polyadic.decomposition.cp_ridge import EXACT, descend, ridge_path

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
PENALTIES = st.sampled_from([1e-1, 1e-3, 1e-6])


def unit_start(K: torch.Tensor, rank: int, seed: int = 0) -> tuple[torch.Tensor, CP]:
    X, _ = unit_tensor(K)
    return X, initial_cp(X, rank, "random", seed)


def objective(X: torch.Tensor, cp: CP, mu: float) -> float:
    """``||X - X^||^2 + mu * sensitivity``, with the tensor formed."""
    return float((X - cp.full()).square().sum()) + mu * cp.sensitivity()


def after(X: torch.Tensor, start: CP, mu: float, sweeps: int) -> float:
    """The objective after so many sweeps."""
    cp, _, _ = descend(X, start, mu, sweeps, tolerance=-1.0)
    return objective(X, cp, mu)


@given(SHAPES, st.integers(1, 6), PENALTIES, st.integers(0, 1000))
def test_the_objective_never_rises_at_a_fixed_penalty(shape: tuple[int, ...], R: int, mu: float, seed: int) -> None:
    X, start = unit_start(gaussian(*shape, seed=seed), R, seed)
    values = [objective(X, start, mu), *(after(X, start, mu, sweeps) for sweeps in (1, 2, 3, 5, 8, 13))]
    assert all(later <= earlier + 1e-13 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize("case", CASES)
def test_the_objective_never_rises_on_difficult_tensors(case: str) -> None:
    X, start = unit_start(CASES[case](), 3)
    values = [after(X, start, 1e-4, sweeps) for sweeps in range(1, 25, 3)]
    assert all(later <= earlier + 1e-13 for earlier, later in itertools.pairwise(values))


def test_a_descent_ends_at_a_stationary_point() -> None:
    X, start = unit_start(gaussian(4, 5, 6), 3)
    mu = 1e-2
    cp, _, stop = descend(X, start, mu, 5000, tolerance=1e-15)
    factors = [U.clone().requires_grad_() for U in cp.factors]
    A, B, C = (U.square().sum(0) for U in factors)
    sensitivity = (4 * B * C + 5 * A * C + 6 * A * B).sum()
    loss = (X - torch.einsum("ir,jr,kr->ijk", *factors)).square().sum() + mu * sensitivity
    gradients = torch.autograd.grad(loss, factors)
    assert stop is StopReason.CONVERGED
    assert max(float(g.abs().max()) for g in gradients) < 1e-6


def test_the_penalty_falls_along_the_path_while_the_error_falls_and_the_sensitivity_grows() -> None:
    X, start = unit_start(gaussian(9, 6, 7), 8)
    options = RidgeOptions(max_sweeps=2000, tolerance=1e-9)
    points = list(ridge_path(X, start, options))
    for earlier, later in itertools.pairwise(points):
        assert later.mu == pytest.approx(earlier.mu / options.weakening)
        assert later.squared_errors[-1] <= earlier.squared_errors[-1] * (1 + 1e-6)
        assert later.cp.sensitivity() >= earlier.cp.sensitivity() * (1 - 1e-6)
    last = points[-1]
    assert last.mu * last.cp.sensitivity() <= options.share * last.squared_errors[-1]


def test_the_path_ends_when_the_tensor_is_met() -> None:
    X, start = unit_start(CASES["exact rank"](), 2)
    last = list(ridge_path(X, start, RidgeOptions(weakest=1e-30, share=0.0)))[-1]
    assert last.squared_errors[-1] <= EXACT


def test_a_penalty_above_every_gain_leaves_the_zero_tensor() -> None:
    solution = cp_ridge(gaussian(4, 5, 6), 2, RidgeOptions(strongest=1e3, weakest=1e3, max_sweeps=500, tolerance=0.0))
    assert solution.relative_error == pytest.approx(1.0, abs=1e-6)
    assert solution.stability.sensitivity == pytest.approx(0.0, abs=1e-6)


@given(SHAPES, st.integers(1, 6))
def test_the_error_of_a_sweep_is_that_of_the_formed_tensor(shape: tuple[int, ...], R: int) -> None:
    X, start = unit_start(gaussian(*shape), R)
    cp, error = sweep(X, start, lambda block: block.G @ torch.linalg.inv(block.Gamma + torch.eye(R)))
    assert error == pytest.approx(float((X - cp.full()).square().sum()), abs=1e-12)
