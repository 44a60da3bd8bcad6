"""Error-preserving correction: what it promises, for every objective and bound, in one run and in rounds."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cases import CASES, border_rank, gaussian, gaussian_cp, one_entry
from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    EPCOptions,
    Objective,
    Stability,
    StopReason,
    cp_als,
    cp_epc,
    cp_epc_rounds,
)

ROUNDING = 4e-7  # root of the 1e-13 by which a squared error may miss its bound
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
ANY_ORDER = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
DIFFICULT = ("full rank", "collinear swamp", "border rank")
every_objective = pytest.mark.parametrize("objective", Objective)


@given(SHAPES | ANY_ORDER, st.integers(1, 5), st.sampled_from([0.0, 0.01, 0.3]), st.integers(0, 1000))
def test_the_correction_keeps_its_bound_and_never_raises_the_sensitivity(
    shape: tuple[int, ...], R: int, slack: float, seed: int
) -> None:
    K = gaussian(*shape, seed=seed)
    given_factors = cp_als(K, R, ALSOptions(max_sweeps=15, tolerance=-1.0), seed=seed)
    corrected = cp_epc(K, given_factors.factors, EPCOptions(error_slack=slack, max_sweeps=30))
    assert corrected.relative_error <= (1 + slack) * given_factors.relative_error + ROUNDING
    assert corrected.stability.sensitivity <= given_factors.stability.sensitivity * (1 + 1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [1, 3, pytest.param(7, marks=pytest.mark.slow)])
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
    skewed = cp_epc(K, CPTensor((A * 1e6, B * 1e-3, C * 1e-3)), EPCOptions(max_sweeps=30))
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
    eye = CPTensor(tuple(torch.eye(size, 3, dtype=torch.float64) for size in (4, 5, 6)))
    dying = cp_epc(one_entry() + 1e-3 * gaussian(4, 5, 6), eye, EPCOptions(error_slack=1.0))
    assert dying.relative_error <= 1.0
    for K in (one_entry(), gaussian(4, 5, 6)):
        A, B, C = eye.factors
        dead = CPTensor((A, B * torch.tensor([1.0, 0.0, 1.0]), C))
        before = float((K - dead.full()).norm() / K.norm())
        solution = cp_epc(K, dead)
        assert solution.relative_error <= before + ROUNDING


def test_factors_of_zero_are_given_back_as_zero() -> None:
    zero = CPTensor(tuple(torch.zeros(size, 2, dtype=torch.float64) for size in (4, 5, 6)))
    solution = cp_epc(gaussian(4, 5, 6), zero)
    assert (solution.relative_error, solution.stability.sensitivity) == (1.0, 0.0)


def test_a_zero_tensor_has_zero_factors() -> None:
    solution = cp_epc(torch.zeros(4, 5, 6), gaussian_cp((4, 5, 6), 2))
    assert solution.stop is StopReason.CONVERGED
    assert solution.relative_error == 0.0
    assert not solution.factors.full().any()


def test_factors_in_another_type_are_taken() -> None:
    K = gaussian(4, 5, 6)
    single = CPTensor(tuple(U.float() for U in cp_als(K, 2).factors.factors))
    solution = cp_epc(K, single)
    assert solution.factors.factors[0].dtype == torch.float64
    assert solution.stability.sensitivity <= Stability.of(single, float(K.norm())).sensitivity * (1 + 1e-6)


def value(objective: Objective, cp: CPTensor, K: torch.Tensor) -> float:
    """The objective of the factors of ``K / ||K||`` with the column norms that suit it."""
    return float(objective.of(objective.balanced(cp.scaled(1.0 / float(K.norm())))))


@every_objective
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 2, 4, 3)])
def test_a_correction_lowers_the_objective_it_is_given(objective: Objective, shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    start = cp_als(K, 4, ALSOptions(max_sweeps=100))
    corrected = cp_epc(K, start.factors, EPCOptions(error_slack=0.02, objective=objective))
    assert corrected.relative_error <= 1.02 * start.relative_error + ROUNDING
    assert value(objective, corrected.factors, K) < 0.95 * value(objective, start.factors, K)
    others = [cp_epc(K, start.factors, EPCOptions(error_slack=0.02, objective=other)) for other in Objective]
    lowest = min(value(objective, other.factors, K) for other in others)
    assert value(objective, corrected.factors, K) <= 1.001 * lowest


@every_objective
@given(SHAPES | ANY_ORDER, st.integers(1, 4), st.integers(0, 1000))
@example((1, 2, 2, 4, 1), 4, 3)  # exact, with terms that cancel
def test_a_correction_never_raises_its_objective(
    objective: Objective, shape: tuple[int, ...], R: int, seed: int
) -> None:
    K = gaussian(*shape, seed=seed)
    start = cp_als(K, R, ALSOptions(max_sweeps=15, tolerance=-1.0), seed=seed)
    corrected = cp_epc(K, start.factors, EPCOptions(objective=objective, max_sweeps=20))
    cancelled = (start.stability.sum_squared_intensity / float(K.square().sum())) ** 0.5  # digits lost by large terms
    assert corrected.relative_error <= start.relative_error + ROUNDING * max(1.0, cancelled)
    assert value(objective, corrected.factors, K) <= value(objective, start.factors, K) * (1 + 1e-9)


def test_the_lemma_and_the_true_sensitivity_lead_to_the_same_tensor() -> None:
    K = gaussian(4, 5, 6)
    start = cp_als(K, 3).factors
    true, lemma = (
        cp_epc(K, start, EPCOptions(error_slack=0.05, objective=objective, max_sweeps=50)).factors.full()
        for objective in (Objective.SENSITIVITY, Objective.LEMMA)
    )
    torch.testing.assert_close(true, lemma, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 2, 4, 3)])
def test_an_error_below_that_of_the_given_factors_is_reached_by_least_squares_first(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    rough = cp_als(K, 5, ALSOptions(max_sweeps=1, tolerance=-1.0))
    good = cp_als(K, 5, ALSOptions(max_sweeps=500))
    delta = 1.05 * good.relative_error
    assert delta < 0.9 * rough.relative_error
    corrected = cp_epc(K, rough.factors, EPCOptions(delta=delta))
    assert corrected.relative_error <= delta + ROUNDING
    assert corrected.stop is not StopReason.BOUND_UNMET


def test_an_error_above_that_of_the_given_factors_is_spent() -> None:
    K = gaussian(4, 5, 6)
    start = cp_als(K, 5)
    by_slack = cp_epc(K, start.factors, EPCOptions(error_slack=0.1))
    by_delta = cp_epc(K, start.factors, EPCOptions(delta=1.1 * start.relative_error))
    assert by_delta.relative_error == pytest.approx(by_slack.relative_error, rel=1e-9)
    assert by_delta.stability.sensitivity == pytest.approx(by_slack.stability.sensitivity, rel=1e-9)


@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_an_error_out_of_reach_gives_the_least_found_and_says_so(delta: float) -> None:
    K = gaussian(4, 5, 6)
    start = cp_als(K, 2, ALSOptions(max_sweeps=2, tolerance=-1.0))
    corrected = cp_epc(K, start.factors, EPCOptions(delta=delta))
    assert corrected.stop is StopReason.BOUND_UNMET
    assert delta < corrected.relative_error <= start.relative_error
    assert corrected.relative_error == pytest.approx(min(corrected.history), abs=1e-9)


@every_objective
@pytest.mark.parametrize(
    "case", ["rank plus noise", *(pytest.param(case, marks=pytest.mark.slow) for case in DIFFICULT)]
)
def test_rounds_are_never_worse_than_one_correction_in_error_or_objective(case: str, objective: Objective) -> None:
    K = CASES[case]()
    start = cp_als(K, 2, ALSOptions(max_sweeps=50)).factors
    options = EPCOptions(error_slack=0.01, objective=objective, max_sweeps=30)
    runs = [cp_epc_rounds(K, start, rounds, options) for rounds in (1, 2, 3, 4)]
    assert runs[0].relative_error == cp_epc(K, start, options).relative_error
    for fewer, more in itertools.pairwise(runs):
        assert more.relative_error <= fewer.relative_error + ROUNDING
        assert value(objective, more.factors, K) <= value(objective, fewer.factors, K) * (1 + 1e-8)
        assert more.sweeps == len(more.history) > fewer.sweeps


def test_rounds_gain_where_one_correction_stops_short() -> None:
    K = gaussian(9, 6, 7)
    start = cp_als(K, 8, ALSOptions(max_sweeps=30)).factors
    once, thrice = (cp_epc_rounds(K, start, rounds, EPCOptions(max_sweeps=40)) for rounds in (1, 3))
    assert thrice.stability.sensitivity < once.stability.sensitivity
    assert thrice.relative_error < once.relative_error
