"""The penalised homotopy: its objective at a fixed penalty, and where its path ends."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from cases import CASES, gaussian
from polyadic.algebra import CPTensor
from polyadic.decomposition import RidgeOptions, StopReason, cp_ridge, cp_ridge_curve
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import Finished, initial_cp
from polyadic.decomposition.cp_ridge import EXACT, follow_path

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
ANY_ORDER = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
PENALTIES = st.sampled_from([1e-1, 1e-3, 1e-6])


def unit_start(K: torch.Tensor, rank: int, seed: int = 0) -> tuple[UnitTensors, CPTensor]:
    unit = UnitTensors.of(K[None])
    return unit, initial_cp(unit, rank, "random", [seed])


def objective(unit: UnitTensors, cp: CPTensor, mu: float) -> float:
    """``||X - X^||^2 + mu * sensitivity``, with the tensor formed, for a batch of one."""
    return float((unit.X - cp.full()).square().sum()) + mu * oracles.sensitivity(cp[0])


def descend(unit: UnitTensors, start: CPTensor, mu: float, sweeps: int, tolerance: float = -1.0) -> Finished:
    """Hold one penalty."""
    options = RidgeOptions(strongest=mu, weakest=mu, max_sweeps=sweeps, tolerance=tolerance)
    return follow_path(unit, start, options)[0]


def after(unit: UnitTensors, start: CPTensor, mu: float, sweeps: int) -> float:
    """The objective after so many sweeps."""
    cp = descend(unit, start, mu, sweeps).cp
    return objective(unit, CPTensor(tuple(U[None] for U in cp.factors)), mu)


@given(SHAPES | ANY_ORDER, st.integers(1, 6), PENALTIES, st.integers(0, 1000))
def test_the_objective_never_rises_at_a_fixed_penalty(shape: tuple[int, ...], R: int, mu: float, seed: int) -> None:
    unit, start = unit_start(gaussian(*shape, seed=seed), R, seed)
    values = [after(unit, start, mu, sweeps) for sweeps in (1, 2, 3, 5, 8, 13)]
    assert all(later <= earlier + 1e-13 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize("case", CASES)
def test_the_objective_never_rises_on_difficult_tensors(case: str) -> None:
    unit, start = unit_start(CASES[case](), 3)
    values = [after(unit, start, 1e-4, sweeps) for sweeps in range(1, 25, 3)]
    assert all(later <= earlier + 1e-13 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize(("shape", "mu"), [((4, 5, 6), 1e-2), ((3, 3, 4, 4), 3e-3)])
def test_a_descent_ends_at_a_stationary_point(shape: tuple[int, ...], mu: float) -> None:
    unit, start = unit_start(gaussian(*shape), 3)
    run = descend(unit, start, mu, 5000, tolerance=1e-15)
    factors = [U.clone().requires_grad_() for U in run.cp.factors]
    norms = [U.square().sum(0) for U in factors]
    parts = [size * torch.stack(norms[:n] + norms[n + 1 :]).prod(0).sum() for n, size in enumerate(shape)]
    loss = (unit.X[0] - CPTensor(tuple(factors)).full()).square().sum() + mu * torch.stack(parts).sum()
    gradients = torch.autograd.grad(loss, factors)
    assert run.stop is StopReason.CONVERGED
    assert max(float(g.abs().max()) for g in gradients) < 1e-6


@pytest.mark.parametrize(("shape", "R"), [((9, 6, 7), 8), ((3, 3, 6, 7), 8)])
def test_along_a_curve_the_penalty_and_the_error_fall_while_the_sensitivity_grows(
    shape: tuple[int, ...], R: int
) -> None:
    K, options = 5.0 * gaussian(*shape), RidgeOptions(max_sweeps=2000, tolerance=1e-9)
    points = cp_ridge_curve(K, R, options)
    assert points[0].mu == options.strongest
    for earlier, later in itertools.pairwise(points):
        assert 1.05 * (1 - 1e-9) <= earlier.mu / later.mu <= options.weakening * (1 + 1e-9)
        assert later.squared_error <= earlier.squared_error * (1 + 1e-6)
        assert later.cp.sensitivity() >= earlier.cp.sensitivity() * (1 - 1e-6)
    for point in points:
        assert point.cp.shape == shape
        error = (K / K.norm() - point.cp.full()).square().sum()
        assert point.squared_error == pytest.approx(float(error), abs=1e-12)
    last = points[-1]
    assert float(last.mu * last.cp.sensitivity()) <= 1.02 * options.share * last.squared_error


@pytest.mark.parametrize(("shape", "R"), [((9, 6, 7), 8), ((9, 8, 10), 12), ((3, 3, 6, 7), 10)])
def test_the_path_lands_on_its_share_and_not_far_beyond(shape: tuple[int, ...], R: int) -> None:
    options = RidgeOptions()
    points = cp_ridge_curve(gaussian(*shape), R, options)
    shares = [float(point.mu * point.cp.sensitivity()) / point.squared_error for point in points]
    assert len(points) > 1
    assert all(share > 1.02 * options.share for share in shares[:-1])
    assert 0.9 * options.share < shares[-1] <= 1.02 * options.share


def test_the_end_of_the_curve_is_the_solution() -> None:
    K = gaussian(9, 6, 7)
    last, solution = cp_ridge_curve(K, 8)[-1], cp_ridge(K, 8)
    assert solution.relative_error == pytest.approx(last.squared_error**0.5, rel=1e-9)
    assert solution.stability.sensitivity == pytest.approx(float(last.cp.sensitivity()), rel=1e-9)
    assert solution.stop is StopReason.CONVERGED


def test_the_path_ends_when_the_tensor_is_met() -> None:
    solution = cp_ridge(CASES["exact rank"](), 2, RidgeOptions(weakest=1e-30, share=1e-9))
    assert solution.history[-1] ** 2 <= EXACT
    assert solution.relative_error <= 1.01e-7


def test_the_path_ends_early_at_an_error_or_a_sensitivity_that_suffices() -> None:
    K = gaussian(9, 6, 7)
    points = cp_ridge_curve(K, 8)
    middle = points[len(points) // 2]
    by_error = cp_ridge_curve(K, 8, RidgeOptions(error=1.0001 * middle.squared_error**0.5))
    by_sensitivity = cp_ridge_curve(K, 8, RidgeOptions(sensitivity=0.9999 * float(middle.cp.sensitivity())))
    assert [point.mu for point in by_error] == [point.mu for point in points[: len(by_error)]]
    assert by_error[-1].mu == by_sensitivity[-1].mu == middle.mu


def test_a_penalty_above_every_gain_leaves_the_zero_tensor() -> None:
    solution = cp_ridge(gaussian(4, 5, 6), 2, RidgeOptions(strongest=1e3, weakest=1e3, max_sweeps=500, tolerance=0.0))
    assert solution.relative_error == pytest.approx(1.0, abs=1e-6)
    assert solution.stability.sensitivity == pytest.approx(0.0, abs=1e-6)


def test_the_first_penalty_may_be_one_for_each_member() -> None:
    K = torch.stack([gaussian(4, 5, 6), gaussian(4, 5, 6)])
    unit = UnitTensors.of(K)
    start = initial_cp(unit, 3, "random", [0, 0])
    seen: dict[int, list[float]] = {0: [], 1: []}
    options = RidgeOptions(weakest=1e-4, max_sweeps=5)
    mu = torch.tensor([1e-2, 1e-3], dtype=torch.float64)
    follow_path(unit, start, options, mu=mu, visit=lambda member, point: seen[member].append(point.mu))
    assert (seen[0][0], seen[1][0]) == (1e-2, 1e-3)
    assert len(seen[0]) > len(seen[1])
