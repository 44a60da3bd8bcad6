"""Krylov-Levenberg-Marquardt: on the surface of bounded sensitivity, downhill."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import ALSOptions, BoundedOptions, KLMOptions, StopReason, cp_als, cp_bounded, cp_klm
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.cp_klm import _krylov
from polyadic.decomposition.gauss_newton import NormalEquations

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple)


@given(SHAPES, st.integers(1, 4), st.sampled_from([0.5, 5.0, 50.0]), st.integers(0, 1000))
def test_the_sensitivity_is_the_bound_and_the_error_never_rises(
    shape: tuple[int, ...], R: int, bound: float, seed: int
) -> None:
    K = 3.0 * gaussian(*shape, seed=seed)
    solution = cp_klm(K, gaussian_cp(shape, R, seed + 1), KLMOptions(bound=bound, max_steps=15, krylov=6))
    assert solution.stability.sensitivity == pytest.approx(bound, rel=1e-8)
    pairs = itertools.pairwise(solution.history)
    assert all(later**2 <= earlier**2 + 1e-13 * max(1.0, bound) for earlier, later in pairs)


@pytest.mark.parametrize("case", [case for case in CASES if case != "zero"])
def test_the_sensitivity_of_the_given_factors_is_kept_on_difficult_tensors(case: str) -> None:
    K = CASES[case]()
    start = cp_als(K, 3, ALSOptions(max_sweeps=20))
    solution = cp_klm(K, start.factors, KLMOptions(max_steps=30))
    assert solution.stability.sensitivity == pytest.approx(start.stability.sensitivity, rel=1e-8)
    assert solution.relative_error <= start.relative_error + 1e-9


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 2, 4, 3)])
def test_it_ends_no_worse_than_alternating_sweeps_under_the_same_bound(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    start = cp_als(K, 4, ALSOptions(max_sweeps=30))
    bound = 0.8 * start.stability.sensitivity
    steps = cp_klm(K, start.factors, KLMOptions(bound=bound, tolerance=1e-9))
    sweeps = cp_bounded(K, start.factors, BoundedOptions(bound=bound, tolerance=1e-9))
    assert steps.relative_error <= 1.001 * sweeps.relative_error
    assert steps.stop is StopReason.CONVERGED


def test_factors_that_meet_the_tensor_are_left_where_they_are() -> None:
    cp = CPTensor(tuple(torch.full((1, 1), 2.0, dtype=torch.float64) for _ in range(3)))
    solution = cp_klm(cp.full(), cp)
    assert (solution.stop, solution.sweeps) == (StopReason.CONVERGED, 1)
    assert solution.relative_error < 1e-15


@pytest.mark.parametrize("dimension", [1, 5, 12, 40])
def test_a_krylov_space_is_spanned_by_powers_and_solves_within_itself(dimension: int) -> None:
    """Against the matrix formed column by column; a space as large as the matrix solves exactly."""
    unit = UnitTensors.of(gaussian(1, 2, 3, 4))
    at = NormalEquations.at(unit, CPTensor(tuple(U[None] for U in gaussian_cp((2, 3, 4), 2).factors)))
    size = at.gradient.numel()
    columns = [at.apply(e.reshape(at.gradient.shape)).flatten() for e in torch.eye(size, dtype=torch.float64)]
    H = torch.stack(columns, 1)
    space = _krylov(at, at.gradient, dimension)
    m = len(space.basis)
    assert m == dimension if dimension <= 12 else 12 <= m <= size  # it closes where H has no further direction
    torch.testing.assert_close(space.basis @ space.basis.mT, torch.eye(m, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(space.H, space.basis @ H @ space.basis.mT, rtol=1e-8, atol=1e-8)
    projected = space.basis.mT @ space.H @ space.basis + 0.1 * torch.eye(size, dtype=torch.float64)
    expected = torch.linalg.solve(projected, at.gradient.flatten())
    torch.testing.assert_close(space.solve(0.1), expected, rtol=1e-7, atol=1e-7)
    if dimension >= size:
        full = torch.linalg.solve(H + 0.1 * torch.eye(size, dtype=torch.float64), at.gradient.flatten())
        torch.testing.assert_close(space.solve(0.1), full, rtol=1e-5, atol=1e-6)
