"""The fit under a bound: it keeps the bound, its error never rises, and it ends where no step helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    EPCOptions,
    Objective,
    Solution,
    StopReason,
    cp_als,
    cp_bounded,
    cp_epc,
)

SHAPES = st.lists(st.integers(1, 5), min_size=3, max_size=4).map(tuple)
every_objective = pytest.mark.parametrize("objective", Objective)


def value(objective: Objective, cp: CPTensor, K: torch.Tensor) -> float:
    """The objective of the factors of ``K / ||K||`` with the column norms that suit it."""
    norm = float(K.norm())
    return float(objective.of(objective.balanced(cp.scaled(1.0 / norm if norm > 0 else 0.0))))


def rises(solution: Solution[CPTensor]) -> bool:
    growth = np.diff(np.square(solution.history)).max(initial=-np.inf)
    return bool(growth > 1e-13 * max(1.0, solution.stability.sum_squared_intensity))


@every_objective
@given(SHAPES, st.integers(1, 5), st.sampled_from([None, 0.3, 3.0, 30.0]), st.integers(0, 1000))
def test_the_bound_holds_and_the_error_never_rises(
    objective: Objective, shape: tuple[int, ...], R: int, bound: float | None, seed: int
) -> None:
    K, start = 3.0 * gaussian(*shape, seed=seed), gaussian_cp(shape, R, seed + 1)
    solution = cp_bounded(K, start, BoundedOptions(bound=bound, objective=objective, max_sweeps=25))
    limit = value(objective, start, K) if bound is None else bound
    assert value(objective, solution.factors, K) <= limit * (1 + 1e-8)
    assert not rises(solution)


@every_objective
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bound", [None, 10.0])
def test_the_bound_holds_on_difficult_tensors(objective: Objective, case: str, bound: float | None) -> None:
    K = CASES[case]()
    start = cp_als(K, 3, ALSOptions(max_sweeps=20)).factors
    solution = cp_bounded(K, start, BoundedOptions(bound=bound, objective=objective, max_sweeps=40))
    limit = value(objective, start, K) if bound is None else bound
    assert value(objective, solution.factors, K) <= limit * (1 + 1e-8)
    assert not rises(solution)


@every_objective
def test_at_its_own_bound_a_fit_only_gains(objective: Objective) -> None:
    K = gaussian(4, 5, 6)
    start = cp_als(K, 4, ALSOptions(max_sweeps=8, tolerance=-1.0))
    solution = cp_bounded(K, start.factors, BoundedOptions(objective=objective))
    assert solution.relative_error < start.relative_error
    assert solution.stop is StopReason.CONVERGED


def test_a_looser_bound_gives_less_error() -> None:
    K = gaussian(9, 6, 7)
    start = cp_als(K, 8, ALSOptions(max_sweeps=100))
    errors = [
        cp_bounded(K, start.factors, BoundedOptions(bound=share * start.stability.sensitivity)).relative_error
        for share in (0.3, 0.6, 0.9, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)


def test_a_bound_above_all_needs_is_plain_least_squares() -> None:
    K = CASES["rank plus noise"]()
    start = cp_als(K, 2, ALSOptions(max_sweeps=2, tolerance=-1.0)).factors
    bounded = cp_bounded(K, start, BoundedOptions(bound=1e6, tolerance=1e-14, max_sweeps=2000))
    plain = cp_als(K, 2, ALSOptions(max_sweeps=2000, tolerance=1e-15))
    assert bounded.relative_error == pytest.approx(plain.relative_error, rel=1e-6)


def test_it_ends_where_the_gradient_of_the_error_is_a_multiple_of_that_of_the_bound() -> None:
    """The condition of Lagrange, by automatic differentiation."""
    shape = (4, 5, 6)
    K = gaussian(*shape)
    X, start = K / K.norm(), cp_als(K, 3, ALSOptions(max_sweeps=30))
    bound = 0.8 * start.stability.sensitivity
    solution = cp_bounded(X, start.factors, BoundedOptions(bound=bound, tolerance=1e-15, max_sweeps=5000))
    factors = [U.clone().requires_grad_() for U in solution.factors.factors]
    a, b, c = (U.square().sum(0) for U in factors)
    sensitivity = (4 * b * c + 5 * a * c + 6 * a * b).sum()
    assert float(sensitivity.detach()) == pytest.approx(bound, rel=1e-9)
    error = (X - torch.einsum("ir,jr,kr->ijk", *factors)).square().sum()
    g = torch.cat([x.flatten() for x in torch.autograd.grad(error, factors)])
    u = torch.cat([x.flatten() for x in torch.autograd.grad(sensitivity, factors)])
    mu = -float(g @ u / (u @ u))
    assert mu > 0
    assert float((g + mu * u).norm()) < 1e-5 * float(g.norm())


def test_it_is_the_mirror_image_of_the_correction() -> None:
    """Least error at the sensitivity that the correction reached leaves nothing to gain, and the other way round."""
    K = CASES["rank plus noise"]()
    start = cp_als(K, 2)
    corrected = cp_epc(K, start.factors, EPCOptions(error_slack=0.05, tolerance=1e-9, max_sweeps=2000))
    mirrored = cp_bounded(K, corrected.factors, BoundedOptions(tolerance=1e-12))
    assert mirrored.relative_error == pytest.approx(corrected.relative_error, rel=1e-5)


def test_factors_beyond_the_bound_are_brought_down_to_it_first() -> None:
    K = gaussian(4, 5, 6)
    solution = cp_bounded(K, gaussian_cp((4, 5, 6), 3).scaled(1e4), BoundedOptions(bound=5.0, max_sweeps=1))
    assert solution.stability.sensitivity <= 5.0 * (1 + 1e-8)
    assert solution.relative_error < 1.0
