"""The sub-problems of one factor: their scalar equation against a root finder, their solutions against SLSQP."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from cases import gaussian, gaussian_cp, unit
from oracles import block_of, least_residual, sensitivity_weight, squared_residual, unfolded, weighted_norm
from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block
from polyadic.decomposition.bounded_factor import Objective, WeightedSpectrum, best_within, secular_root

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple)
SHARES = st.floats(1e-6, 0.999)
SEEDS = st.integers(0, 1000)


def problem(shape: tuple[int, ...], R: int, mode: int, seed: int) -> tuple[torch.Tensor, CPTensor, Block, torch.Tensor]:
    X, cp = unit(gaussian(*shape, seed=seed)), gaussian_cp(shape, R, seed=seed + 1)
    return X, cp, block_of(X, cp, mode), sensitivity_weight(cp, mode)


@given(st.integers(1, 6), st.floats(1e-9, 0.999), SEEDS)
def test_the_secular_root_is_that_of_a_bracketing_solver(R: int, share: float, seed: int) -> None:
    c2, d = gaussian(R, seed=seed).square() + 1e-9, (3.0 * gaussian(R, seed=seed + 1)).exp()

    def psi(t: float) -> float:
        return float((c2 / (d + t).square()).sum())

    target = share * psi(0.0)
    t = float(secular_root(c2[None], d[None], torch.tensor([target], dtype=torch.float64)))
    assert psi(t) <= target
    high = float((c2.sum() / target).sqrt())
    expected = brentq(lambda t: psi(t) / target - 1.0, 0.0, high, xtol=1e-300, rtol=1e-13)
    assert t == pytest.approx(expected, rel=1e-6, abs=1e-9 * float(d.min()))


def test_members_of_a_batch_have_roots_of_their_own() -> None:
    c2, d = gaussian(3, 4).square(), gaussian(3, 4, seed=1).exp()
    c2, d = torch.cat([c2, torch.zeros(1, 4)]), torch.cat([d, torch.ones(1, 4)])  # the last has nothing to explain
    target = torch.tensor([1e-3, 1e9, 1e-12, 0.5], dtype=torch.float64)
    together = secular_root(c2, d, target)
    alone = torch.cat([secular_root(c2[[b]], d[[b]], target[[b]]) for b in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=0)
    assert together[[1, 3]].tolist() == [0.0, 0.0]  # psi(0) is below the target


@given(SHAPES, st.integers(1, 5), SHARES, SEEDS, st.data())
def test_a_ridge_meets_its_error_and_its_size_from_below(
    shape: tuple[int, ...], R: int, share: float, seed: int, data: st.DataObject
) -> None:
    mode = data.draw(st.integers(0, len(shape) - 1))
    X, cp, block, weight = problem(shape, R, mode, seed)
    spectrum = WeightedSpectrum.of(block, weight[None])
    explained = float(spectrum.energy.sum())
    least = squared_residual(X, cp, mode, spectrum.ridge(torch.zeros(1).double())[0])
    assert least == pytest.approx(1.0 - explained, abs=1e-9)

    slack = share * explained
    A = spectrum.ridge(spectrum.ridge_of_error(torch.tensor([slack], dtype=torch.float64)))[0]
    assert squared_residual(X, cp, mode, A) <= least + slack + 1e-10
    assert squared_residual(X, cp, mode, A) == pytest.approx(least + slack, abs=1e-8)

    largest = weighted_norm(spectrum.ridge(torch.zeros(1).double())[0], weight)
    A = spectrum.ridge(spectrum.ridge_of_size(torch.tensor([share * largest], dtype=torch.float64)))[0]
    assert weighted_norm(A, weight) <= share * largest * (1 + 1e-9)
    assert weighted_norm(A, weight) == pytest.approx(share * largest, rel=1e-8)


@pytest.mark.parametrize(("shape", "R"), [((3, 4, 5), 2), ((2, 3, 4), 3), ((4, 2, 3), 1), ((2, 3, 2, 3), 2)])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_bounded_fit_of_a_factor_is_the_one_that_a_general_solver_finds(
    shape: tuple[int, ...], R: int, mode: int, share: float
) -> None:
    X, cp, block, weight = problem(shape, R, mode, seed=0)
    least_squares = WeightedSpectrum.of(block, weight[None]).ridge(torch.zeros(1).double())[0]
    size = share * weighted_norm(least_squares, weight)
    bound = size + Objective.SENSITIVITY.untouched(block)
    A = best_within(block, bound, Objective.SENSITIVITY)[0]
    assert weighted_norm(A, weight) <= size * (1 + 1e-9)
    assert squared_residual(X, cp, mode, A) == pytest.approx(least_residual(X, cp, mode, size), abs=1e-7)
    moved = CPTensor(tuple(A if m == mode else U for m, U in enumerate(cp.factors)))
    assert float(moved.sensitivity()) == pytest.approx(float(bound), rel=1e-8)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a_bound_that_least_squares_obeys_gives_least_squares(mode: int) -> None:
    X, cp, block, _ = problem((3, 4, 5), 2, mode, seed=3)
    A = best_within(block, torch.tensor([1e9], dtype=torch.float64), Objective.SENSITIVITY)[0]
    Z = torch.linalg.pinv(block.Gamma[0])
    torch.testing.assert_close(A, block.G[0] @ Z, rtol=1e-8, atol=1e-8)
    # a bound below what the other factors cost alone leaves nothing
    none = best_within(block, 0.5 * Objective.SENSITIVITY.untouched(block), Objective.SENSITIVITY)
    assert float(none.norm()) < 1e-6
    assert squared_residual(X, cp, mode, none[0]) == pytest.approx(1.0, abs=1e-6)


def test_equal_terms_are_served_with_the_least_size() -> None:
    X = unit(gaussian(3, 4, 5))
    cp = CPTensor(tuple(U[:, [0, 0, 1]] for U in gaussian_cp((3, 4, 5), 2).factors))
    spectrum = WeightedSpectrum.of(block_of(X, cp, 0), sensitivity_weight(cp, 0)[None])
    assert int((spectrum.e > 0).sum()) == 2
    A = spectrum.ridge(torch.zeros(1).double())[0]
    torch.testing.assert_close(A[:, 0], A[:, 1])
    best = unfolded(X, 0) @ torch.linalg.pinv(block_partner(cp).mT, rtol=1e-9)
    assert squared_residual(X, cp, 0, A) == pytest.approx(squared_residual(X, cp, 0, best), abs=1e-10)


def block_partner(cp: CPTensor) -> torch.Tensor:
    B, C = cp.factors[1:]
    return torch.einsum("jr,kr->jkr", B, C).reshape(-1, cp.rank)


def test_a_dead_term_has_no_weight_and_stays_dead() -> None:
    X, (A, B, C) = unit(gaussian(3, 4, 5)), gaussian_cp((3, 4, 5), 2).factors
    dead = CPTensor((A, B * torch.tensor([0.0, 1.0]), C * torch.tensor([0.0, 1.0])))
    block = block_of(X, dead, 0)
    spectrum = WeightedSpectrum.of(block, sensitivity_weight(dead, 0)[None])
    assert not spectrum.ridge(torch.tensor([1e-3], dtype=torch.float64))[0, :, 0].any()
