"""TKD-CPD under an error bound, and the ranks of Tucker-2 that suit a CP rank."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, gaussian
from polyadic.algebra import mode_product
from polyadic.decomposition import (
    BoundedOptions,
    EPCOptions,
    RidgeOptions,
    SplitForecast,
    StableOptions,
    forecast_split,
    likely_ranks,
    stable_cp,
    tkd_cpd,
    tkd_cpd_bounded,
    tkd_weights,
    tucker2,
)
from polyadic.decomposition.tkd_cpd_bounded import cheapest_pair
from polyadic.errors import DecompositionError

SHORT = StableOptions(
    ridge=RidgeOptions(max_sweeps=8, weakening=3.0, tolerance=1e-3),
    fit=BoundedOptions(max_sweeps=20),
    epc=EPCOptions(max_sweeps=20),
)


def low_multilinear_rank(R1: int, R2: int, noise: float = 0.02, S: int = 20, T: int = 24) -> Tensor:
    """A kernel of few channels in rotated coordinates, whose core has no low CP rank, with noise."""
    U, V = (torch.linalg.qr(gaussian(size, r, seed=size)).Q for size, r in ((S, R1), (T, R2)))
    K = torch.einsum("dpq,sp,tq->dst", gaussian(9, R1, R2), U, V)
    E = gaussian(9, S, T, seed=9)
    return K + noise * K.norm() / E.norm() * E


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.integers(1, 60), st.data())
def test_weights_are_those_of_the_cheapest_way_of_merging(D2: int, S: int, T: int, R: int, data: st.DataObject) -> None:
    R1, R2 = data.draw(st.tuples(st.integers(1, S), st.integers(1, T)))
    ways = [first + last + R * D2 for first in (S * R, S * R1 + R1 * R) for last in (T * R, R * R2 + R2 * T)]
    assert tkd_weights((D2, S, T))(R1, R2, R) == min(ways)


@pytest.mark.parametrize("error", [*(pytest.param(error, marks=pytest.mark.slow) for error in (0.05, 0.2, 0.5)), 0.8])
def test_the_bound_is_kept_and_the_two_squared_errors_add_to_it(error: float) -> None:
    K = low_multilinear_rank(4, 5)
    solution = tkd_cpd_bounded(K, error, options=SHORT)
    assert 0.9 * error <= solution.relative_error <= error
    U, V = solution.factors.U, solution.factors.V
    G = mode_product(mode_product(K, U.mT, 1), V.mT, 2)
    parts = K.square().sum() - G.square().sum() + (G - solution.factors.core.full()).square().sum()
    assert float(parts / K.square().sum()) == pytest.approx(solution.relative_error**2, abs=1e-10)


@pytest.mark.slow
@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), st.floats(0.0, 0.95))
@settings(max_examples=12)
def test_any_small_kernel_keeps_any_bound(shape: tuple[int, ...], error: float) -> None:
    solution = tkd_cpd_bounded(gaussian(*shape), error, options=SHORT)
    assert solution.relative_error <= error + 1e-12


@pytest.mark.parametrize("case", CASES)
def test_every_difficult_tensor_keeps_a_bound(case: str) -> None:
    assert tkd_cpd_bounded(CASES[case](), 0.3, options=SHORT).relative_error <= 0.3 + 1e-12


def test_where_the_multilinear_ranks_are_low_the_sides_are_split_and_weights_are_saved() -> None:
    K = low_multilinear_rank(4, 5)
    price = tkd_weights(tuple(K.shape))
    solution = tkd_cpd_bounded(K, 0.1, options=SHORT)
    R1, R2, R = solution.factors.ranks
    assert (R1, R2) == (4, 5)
    plain = next(r for r in range(8, 200) if stable_cp(K, r, SHORT).relative_error <= 0.1)
    assert price(R1, R2, R) < 0.8 * price(20, 24, plain)


def test_a_kernel_without_low_multilinear_ranks_stays_whole() -> None:
    K = gaussian(9, 8, 10)
    solution = tkd_cpd_bounded(K, 0.5, options=SHORT)
    assert solution.factors.ranks[:2] == (8, 10)
    assert likely_ranks(forecast_split(K, 12), 12) == (8, 10)


def test_no_rank_clearly_below_the_one_found_keeps_the_bound() -> None:
    K = gaussian(9, 8, 10)
    solution = tkd_cpd_bounded(K, 0.4, options=SHORT)
    R = solution.factors.ranks[2]
    assert stable_cp(K, R - 3, SHORT).relative_error > 0.4


def test_a_price_on_the_input_side_moves_the_split_there() -> None:
    K = low_multilinear_rank(6, 6, noise=0.3, S=20, T=20)
    forecast = SplitForecast(K)
    weights = tkd_weights(tuple(K.shape))
    dear_inputs = cheapest_pair(forecast, 0.36, lambda R1, R2, R: weights(R1, 20, R) + 30 * R1, 10)
    dear_outputs = cheapest_pair(forecast, 0.36, lambda R1, R2, R: weights(20, R2, R) + 30 * R2, 10)
    assert dear_inputs[0] < dear_outputs[0]
    assert dear_inputs[1] > dear_outputs[1]


@pytest.mark.parametrize("rank", [14, 18])
def test_without_ranks_a_split_saves_weights_and_hardly_any_error(rank: int) -> None:
    K = low_multilinear_rank(4, 5)
    ours = tkd_cpd(K, rank, options=SHORT)
    weights = tkd_weights(tuple(K.shape))
    budget = weights(20, 24, rank)
    assert weights(*ours.factors.ranks) < 0.8 * budget
    assert ours.relative_error < 1.1 * stable_cp(K, rank, SHORT).relative_error + 0.01


def test_without_ranks_nothing_is_cut_off_where_it_would_not_pay() -> None:
    K = gaussian(9, 8, 10)
    solution = tkd_cpd(K, 12, options=SHORT)
    assert solution.factors.ranks == (8, 10, 12)
    assert solution.relative_error == pytest.approx(tkd_cpd(K, 12, ranks=(8, 10), options=SHORT).relative_error)


def test_the_forecast_knows_the_truncation_errors_and_takes_its_exponent_from_a_cp() -> None:
    K = low_multilinear_rank(6, 7, noise=0.2)
    forecast = SplitForecast(K)
    for pair in ((3, 4), (6, 7), (20, 24)):
        truncated = tucker2(K, pair).relative_error ** 2
        assert float(forecast.lost[pair[0] - 1, pair[1] - 1]) == pytest.approx(truncated, abs=0.06)
        assert float(forecast.lost[pair[0] - 1, pair[1] - 1]) >= truncated - 1e-9
    error = stable_cp(K, 15, SHORT).relative_error
    forecast.calibrate(15, error)
    share = torch.tensor(15 * (9 + 20 + 24) / K.numel(), dtype=torch.float64)
    assert float(forecast.core_error(share)) == pytest.approx(error**2, rel=0.01)
    ranks = forecast.rank_for(torch.full((20, 24), error**2, dtype=torch.float64))
    assert float(ranks[-1, -1]) == pytest.approx(15, abs=2)


def test_the_norm_of_the_inputs_is_taken_off_the_input_side() -> None:
    K, M = gaussian(9, 6, 8), torch.diag(torch.tensor([3.0, 2, 1, 0.5, 0.2, 0.1], dtype=torch.float64))
    weighted = mode_product(K, M, 1)
    solution = tkd_cpd_bounded(weighted, 0.3, options=SHORT)
    plain = solution.factors.times_input(torch.linalg.inv(M))
    error = mode_product(K - plain.full(), M, 1).norm() / weighted.norm()
    assert float(error) == pytest.approx(solution.relative_error, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_factors_come_back_in_the_type_of_the_kernel(dtype: torch.dtype) -> None:
    factors = tkd_cpd_bounded(gaussian(4, 5, 6).to(dtype), 0.4, options=SHORT).factors
    assert {U.dtype for U in (factors.U, factors.V, *factors.core.factors)} == {dtype}


K = gaussian(3, 4, 5)
WRONG = {
    "bound 1": (lambda: tkd_cpd_bounded(K, 1.0), "got 1.0"),
    "bound below 0": (lambda: tkd_cpd_bounded(K, -0.1), "got -0.1"),
    "NaN bound": (lambda: tkd_cpd_bounded(K, math.nan), "got nan"),
    "resolution 0": (lambda: tkd_cpd_bounded(K, 0.1, resolution=0.0), "fraction in"),
    "NaN": (lambda: tkd_cpd_bounded(K * math.nan, 0.1), "NaN"),
    "order 2": (lambda: tkd_cpd_bounded(K[0], 0.1), "order 3"),
    "rank 0": (lambda: tkd_cpd(K, 0), "got 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_requests_are_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
