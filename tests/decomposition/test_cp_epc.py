"""Error-preserving correction: its sub-problem against a general solver, and what it promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, border_rank, gaussian, gaussian_cp, one_entry
from oracles import block_of, least_weighted_norm, squared_residual, unfolded, weighted_norm
from polyadic.algebra import CP
from polyadic.decomposition import ALSOptions, EPCOptions, Stability, StopReason, cp_als, cp_epc
from polyadic.decomposition.alternation import Block, sweep, unit_tensor
from polyadic.decomposition.cp_epc import least_sensitive

ROUNDING = 4e-7  # root of the 1e-13 by which a squared error may miss its bound
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
modes = pytest.mark.parametrize("mode", [0, 1, 2])


def problem(shape: tuple[int, ...], R: int, mode: int, seed: int = 0) -> tuple[torch.Tensor, CP, Block, float]:
    """A unit tensor, factors, the sub-problem of one of them, and its least squared residual."""
    X, _ = unit_tensor(gaussian(*shape, seed=seed))
    cp = gaussian_cp(shape, R, seed=seed + 1)
    block = block_of(X, cp, mode)
    Z = block.G.new_tensor(0.0) + block.Gamma
    best = block.G @ torch.linalg.pinv(Z, hermitian=True)
    return X, cp, block, squared_residual(X, cp, mode, best)


@modes
def test_a_sweep_poses_the_sub_problems_of_the_definition(mode: int) -> None:
    X, cp = gaussian(3, 4, 5), gaussian_cp((3, 4, 5), 2, seed=1)
    seen: list[Block] = []

    def keep(block: Block) -> torch.Tensor:
        seen.append(block)
        return block.factor

    sweep(X, cp, keep)
    expected = block_of(X, cp, mode)
    for name in ("factor", "G", "Gamma", "weight"):
        torch.testing.assert_close(getattr(seen[mode], name), getattr(expected, name), rtol=1e-10, atol=1e-10)


@given(SHAPES, st.integers(1, 4), st.integers(0, 2))
def test_the_weights_are_what_a_factor_adds_to_the_sensitivity(shape: tuple[int, ...], R: int, mode: int) -> None:
    cp = gaussian_cp(shape, R)
    without = CP(tuple(torch.zeros_like(U) if m == mode else U for m, U in enumerate(cp.factors)))
    added = cp.sensitivity() - without.sensitivity()
    assert added == pytest.approx(weighted_norm(cp.factors[mode], block_of(cp.full(), cp, mode)), rel=1e-10)


@modes
@pytest.mark.parametrize(("shape", "R"), [((3, 4, 5), 2), ((2, 3, 4), 3), ((4, 2, 3), 1), ((1, 4, 3), 2)])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_closed_form_is_the_minimiser_that_a_general_solver_finds(
    shape: tuple[int, ...], R: int, mode: int, share: float
) -> None:
    X, cp, block, least = problem(shape, R, mode)
    bound = least + share * (1.0 - least)
    A = least_sensitive(block, bound)
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-10)
    assert weighted_norm(A, block) == pytest.approx(least_weighted_norm(X, cp, mode, bound), rel=1e-5)


@modes
@given(SHAPES, st.integers(1, 6), st.floats(0.001, 0.999), st.integers(0, 1000))
def test_the_closed_form_meets_its_bound_and_no_feasible_neighbour_is_less_sensitive(
    mode: int, shape: tuple[int, ...], R: int, share: float, seed: int
) -> None:
    X, cp, block, least = problem(shape, R, mode, seed)
    bound = least + share * (1.0 - least)
    A = least_sensitive(block, bound)
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-9)
    for step in (1e-1, 1e-3):
        moved = A + step * gaussian(*A.shape, seed=seed)
        if squared_residual(X, cp, mode, moved) <= bound:
            assert weighted_norm(moved, block) >= weighted_norm(A, block) * (1 - 1e-9)


@modes
def test_a_bound_out_of_reach_gives_least_squares(mode: int) -> None:
    X, cp, block, least = problem((3, 4, 5), 2, mode)
    A = least_sensitive(block, 0.5 * least)
    assert squared_residual(X, cp, mode, A) == pytest.approx(least, abs=1e-12)


@modes
@pytest.mark.parametrize("bound", [1.0, 1.5, 100.0])
def test_a_bound_that_zero_meets_gives_zero(mode: int, bound: float) -> None:
    _, _, block, _ = problem((3, 4, 5), 2, mode)
    assert not least_sensitive(block, bound).any()


@modes
def test_a_singular_gram_is_served_with_the_minimum_norm(mode: int) -> None:
    """Two equal terms: the one direction that Z does not see stays empty."""
    X, _ = unit_tensor(gaussian(3, 4, 5))
    cp = CP(tuple(U[:, [0, 0, 1]] for U in gaussian_cp((3, 4, 5), 2).factors))
    block = block_of(X, cp, mode)
    bound = squared_residual(X, cp, mode, block.G @ torch.linalg.pinv(block.Gamma)) + 0.05
    A = least_sensitive(block, bound)
    torch.testing.assert_close(A[:, 0], A[:, 1])
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-10)
    assert weighted_norm(A, block) == pytest.approx(least_weighted_norm(X, cp, mode, bound), rel=1e-5)


def test_a_factor_with_more_columns_than_equations_is_served() -> None:
    X, cp, block, least = problem((2, 2, 2), 7, 0)
    assert least < 1e-12
    assert squared_residual(X, cp, 0, least_sensitive(block, 0.25)) == pytest.approx(0.25, abs=1e-10)
    assert unfolded(X, 0).shape == (2, 4)


@given(SHAPES, st.integers(1, 5), st.sampled_from([0.0, 0.01, 0.3]), st.integers(0, 1000))
def test_the_correction_keeps_its_bound_and_never_raises_the_sensitivity(
    shape: tuple[int, ...], R: int, slack: float, seed: int
) -> None:
    K = gaussian(*shape, seed=seed)
    given_factors = cp_als(K, R, ALSOptions(max_sweeps=15, tolerance=-1.0), seed=seed)
    corrected = cp_epc(K, given_factors.factors, EPCOptions(error_slack=slack, max_sweeps=30))
    assert corrected.relative_error <= (1 + slack) * given_factors.relative_error + ROUNDING
    assert corrected.stability.sensitivity <= given_factors.stability.sensitivity * (1 + 1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [1, 3, 7])
@pytest.mark.parametrize("slack", [0.0, 0.05])
def test_the_correction_keeps_its_promises_on_difficult_tensors(case: str, rank: int, slack: float) -> None:
    K = CASES[case]()
    start = cp_als(K, rank, ALSOptions(max_sweeps=30))
    corrected = cp_epc(K, start.factors, EPCOptions(error_slack=slack, max_sweeps=60))
    assert corrected.relative_error <= (1 + slack) * start.relative_error + ROUNDING
    assert corrected.stability.sensitivity <= start.stability.sensitivity * (1 + 1e-9)


def test_badly_scaled_columns_of_the_given_factors_do_no_harm() -> None:
    K = gaussian(4, 5, 6)
    start = cp_als(K, 3)
    A, B, C = start.factors.factors
    skewed = cp_epc(K, CP((A * 1e6, B * 1e-3, C * 1e-3)), EPCOptions(max_sweeps=30))
    assert skewed.relative_error <= start.relative_error + ROUNDING
    assert skewed.stability.sensitivity <= start.stability.sensitivity * (1 + 1e-9)


def test_the_correction_tames_a_degenerate_decomposition() -> None:
    K = border_rank(noise=0.03)
    degenerate = cp_als(K, 2, ALSOptions(max_sweeps=1000, tolerance=-1.0))
    corrected = cp_epc(K, degenerate.factors, EPCOptions(error_slack=0.01))
    assert corrected.relative_error <= 1.01 * degenerate.relative_error + ROUNDING
    assert corrected.stability.sum_squared_intensity < 0.7 * degenerate.stability.sum_squared_intensity


def test_more_slack_gives_less_sensitivity() -> None:
    K = gaussian(9, 6, 7)
    start = cp_als(K, 8, ALSOptions(max_sweeps=100))
    sensitivities = [
        cp_epc(K, start.factors, EPCOptions(error_slack=slack)).stability.sensitivity for slack in (0.0, 0.01, 0.1, 0.3)
    ]
    assert sensitivities == sorted(sensitivities, reverse=True)


@pytest.mark.parametrize("slack", [5.0, 1e6, float("inf")])
def test_a_slack_beyond_the_tensor_ends_at_zero(slack: float) -> None:
    K = gaussian(4, 5, 6)
    solution = cp_epc(K, cp_als(K, 3).factors, EPCOptions(error_slack=slack))
    assert (solution.relative_error, solution.stability.sensitivity) == (1.0, 0.0)


def test_a_dead_term_and_one_that_dies_in_the_first_sweep_are_dropped() -> None:
    eye = CP(tuple(torch.eye(size, 3, dtype=torch.float64) for size in (4, 5, 6)))
    dying = cp_epc(one_entry() + 1e-3 * gaussian(4, 5, 6), eye, EPCOptions(error_slack=1.0))
    assert dying.relative_error <= 1.0
    for K in (one_entry(), gaussian(4, 5, 6)):
        A, B, C = eye.factors
        dead = CP((A, B * torch.tensor([1.0, 0.0, 1.0]), C))
        before = float((K - dead.full()).norm() / K.norm())
        solution = cp_epc(K, dead)
        assert solution.relative_error <= before + ROUNDING


def test_factors_of_zero_are_given_back_as_zero() -> None:
    zero = CP(tuple(torch.zeros(size, 2, dtype=torch.float64) for size in (4, 5, 6)))
    solution = cp_epc(gaussian(4, 5, 6), zero)
    assert (solution.relative_error, solution.stability.sensitivity) == (1.0, 0.0)


def test_a_zero_tensor_has_zero_factors_in_closed_form() -> None:
    solution = cp_epc(torch.zeros(4, 5, 6), gaussian_cp((4, 5, 6), 2))
    assert solution.stop is StopReason.CLOSED_FORM
    assert not solution.factors.full().any()


def test_factors_in_another_type_are_taken() -> None:
    K = gaussian(4, 5, 6)
    single = CP(tuple(U.float() for U in cp_als(K, 2).factors.factors))
    solution = cp_epc(K, single)
    assert solution.factors.factors[0].dtype == torch.float64
    assert solution.stability.sensitivity <= Stability.of(single, float(K.norm())).sensitivity * (1 + 1e-6)
