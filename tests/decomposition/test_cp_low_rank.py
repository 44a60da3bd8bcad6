"""CP with low-rank factor matrices: the update is the best of its rank, bounds hold, parameters are counted right."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, gaussian, gaussian_cp
from oracles import partner_product, unfolded
from polyadic.algebra import CPTensor, mode_product
from polyadic.decomposition import (
    BoundedOptions,
    EPCOptions,
    LowRankCP,
    LowRankOptions,
    RidgeOptions,
    Solution,
    StableOptions,
    cp_low_rank,
    cp_low_rank_bounded,
    stable_cp,
)
from polyadic.decomposition.cp_low_rank import LowRankSweeps, reduced_rank
from polyadic.decomposition.cp_low_rank_bounded import lower_ranks
from polyadic.errors import DecompositionError

START = StableOptions(
    ridge=RidgeOptions(max_sweeps=6, weakening=3.0, tolerance=1e-3), fit=BoundedOptions(max_sweeps=20)
)
EPC = EPCOptions(max_sweeps=20)
SHORT = LowRankOptions(max_sweeps=20, rounds=6, start=START, epc=EPC)
PLAIN = LowRankOptions(penalty=0.0, max_sweeps=20, start=START, epc=None)
USUAL = LowRankOptions(start=START, epc=EPC)


def low_rank_factors(shape: tuple[int, ...], R: int, ranks: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor that such a decomposition meets exactly."""
    factors = [
        gaussian(size, r, seed=seed + mode) @ gaussian(r, R, seed=seed + 7 * mode)
        for mode, (size, r) in enumerate(zip(shape, ranks, strict=True))
    ]
    return CPTensor(tuple(factors)).full()


def penalised(X: Tensor, factors: list[Tensor], mode: int, A: Tensor, mu: float) -> float:
    """``||X_(n) - A Z'||^2 + mu ||A diag(w)||^2`` from the unfolding and the Khatri-Rao product themselves."""
    j, k = (m for m in range(3) if m != mode)
    w2 = X.shape[k] * factors[j].square().sum(0) + X.shape[j] * factors[k].square().sum(0)
    residual = unfolded(X, mode) - A @ partner_product(factors, mode).mT
    return float(residual.square().sum() + mu * (A.square() * w2).sum())


def searched(X: Tensor, factors: list[Tensor], mode: int, r: int, mu: float) -> float:
    """The least of that over matrices of rank r, by alternating P and Q of ``A = P Q'`` from many starts."""
    j, k = (m for m in range(3) if m != mode)
    Z = partner_product(factors, mode)
    w2 = X.shape[k] * factors[j].square().sum(0) + X.shape[j] * factors[k].square().sum(0)
    Gamma, G = Z.mT @ Z + mu * torch.diag(w2), unfolded(X, mode) @ Z
    values = []
    for seed in range(8):
        P = gaussian(X.shape[mode], r, seed=seed)
        for _ in range(200):
            Q = torch.linalg.lstsq(P, G).solution @ torch.linalg.inv(Gamma)
            P = G @ Q.mT @ torch.linalg.inv(Q @ Gamma @ Q.mT)
        values.append(penalised(X, factors, mode, P @ Q, mu))
    return min(values)


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_the_update_is_the_best_factor_of_its_rank_that_many_starts_find(mode: int, r: int, penalty: float) -> None:
    X = gaussian(4, 5, 6) / gaussian(4, 5, 6).norm()
    cp = gaussian_cp((4, 5, 6), 4).scaled(0.2)
    sweeps = LowRankSweeps(X, cp, LowRankOptions(penalty=penalty), (None, None, None))
    factors = list(sweeps.cp.factors)
    P, PtA, errors = sweeps.update(mode, factors)
    A = P[:, :r] @ PtA[:r]
    assert torch.linalg.matrix_rank(A) == r
    best = searched(X, factors, mode, r, sweeps.mu)
    assert penalised(X, factors, mode, A, sweeps.mu) == pytest.approx(best, rel=1e-6)
    assert float(errors[r - 1]) == pytest.approx(penalised(X, factors, mode, A, 0.0), abs=1e-12)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_the_values_of_all_ranks_are_those_of_the_projected_factors(I: int, R: int, seed: int) -> None:
    G, root = gaussian(I, R, seed=seed), gaussian(R + 2, R, seed=seed + 1)
    Gamma = root.mT @ root
    A, P, sigma2 = reduced_rank(G, Gamma)
    torch.testing.assert_close(P.mT @ P, torch.eye(min(I, R), dtype=P.dtype), atol=1e-10, rtol=0)
    for r in range(1, min(I, R) + 1):
        low = P[:, :r] @ P[:, :r].mT @ A
        value = torch.trace(low @ Gamma @ low.mT) - 2 * torch.trace(low @ G.mT)
        assert float(value) == pytest.approx(-float(sigma2[:r].sum()), rel=1e-8)


def test_a_singular_gram_has_an_update_too() -> None:
    G = gaussian(5, 1) @ torch.ones(1, 4, dtype=torch.float64)
    A, _, sigma2 = reduced_rank(G, torch.ones(4, 4, dtype=torch.float64))
    torch.testing.assert_close(A.sum(1), G[:, 0])
    assert float(sigma2[1:].max()) < 1e-10 * float(sigma2[0])


@pytest.mark.parametrize("ranks", [(2, 3, 4), (None, 3, 2), (None, None, 3)])
def test_a_tensor_of_this_model_is_met(ranks: tuple[int | None, ...]) -> None:
    X = low_rank_factors((6, 8, 9), 5, tuple(r or 5 for r in ranks))
    solution = cp_low_rank(X, 5, ranks, replace(PLAIN, max_sweeps=400, tolerance=1e-12))
    assert solution.relative_error < 0.02
    assert solution.factors.ranks == ranks


@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_the_objective_never_rises(penalty: float) -> None:
    X = gaussian(6, 8, 9) / gaussian(6, 8, 9).norm()
    sweeps = LowRankSweeps(
        X, stable_cp(X, 7, START).factors, replace(PLAIN, penalty=penalty, tolerance=-1.0), (None, 4, 5)
    )
    sweeps.run(1)
    previous = math.inf
    for _ in range(20):
        sweeps.run(1)
        objective = sweeps.squared_error + sweeps.mu * float(sweeps.cp.sensitivity())
        assert objective <= previous * (1 + 1e-12)
        previous = objective


def test_a_penalty_makes_the_factors_less_sensitive() -> None:
    K = gaussian(9, 12, 12)
    plain, penalised_ = (
        cp_low_rank(K, 14, (None, 8, 8), replace(PLAIN, penalty=p, max_sweeps=100)) for p in (0.0, 0.2)
    )
    assert plain.stability is not None
    assert penalised_.stability is not None
    assert penalised_.stability.sensitivity < 0.8 * plain.stability.sensitivity
    assert penalised_.relative_error < 1.05 * plain.relative_error


@given(st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(2, 6)), st.integers(1, 5), st.data())
@settings(max_examples=10)
def test_numbers_are_counted_as_they_are_stored(shape: tuple[int, int, int], R: int, data: st.DataObject) -> None:
    ranks = tuple(data.draw(st.one_of(st.none(), st.integers(1, size))) for size in shape)
    solution = cp_low_rank(gaussian(*shape), R, ranks, SHORT)
    stored = [U for U in (*solution.factors.bases, *solution.factors.core.factors) if U is not None]
    assert solution.factors.parameters == sum(U.numel() for U in stored)
    check_laws(gaussian(*shape), solution)


def check_laws(K: Tensor, solution: Solution[LowRankCP]) -> None:
    """Orthonormal bases, the measured error, and errors that add."""
    factors, X = solution.factors, K.double()
    assert solution.relative_error == pytest.approx(float((X - factors.full().double()).norm() / X.norm()), abs=1e-7)
    G = X
    for mode, U in enumerate(factors.bases):
        if U is not None:
            torch.testing.assert_close(U.mT @ U, torch.eye(U.shape[1], dtype=U.dtype), atol=1e-8, rtol=0)
            G = mode_product(G, U.mT.double(), mode)
    whole = X.square().sum() - G.square().sum() + (G - factors.core.full()).square().sum()
    assert float(whole / X.square().sum()) == pytest.approx(solution.relative_error**2, abs=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("slack", [1.02, 1.3, 2.0])
def test_the_bound_is_kept_and_what_is_left_of_it_is_spent(factor: float, slack: float) -> None:
    K = factor * (low_rank_factors((8, 14, 16), 12, (4, 5, 6)) + 2.0 * gaussian(8, 14, 16))
    bound = min(0.99, slack * stable_cp(K, 12, START).relative_error)
    solution = cp_low_rank_bounded(K, 12, bound, USUAL)
    assert 0.95 * bound <= solution.relative_error <= bound * (1 + 1e-9)
    assert solution.factors.parameters <= 12 * (8 + 14 + 16)
    check_laws(K, solution)


def test_ranks_that_are_there_are_found() -> None:
    K = low_rank_factors((8, 20, 24), 16, (8, 4, 5))
    noisy = K + 0.05 * K.norm() / gaussian(8, 20, 24).norm() * gaussian(8, 20, 24)
    solution = cp_low_rank_bounded(noisy, 16, 0.06, USUAL)
    assert solution.factors.ranks[1:] == (4, 5)
    assert solution.factors.parameters <= 8 * 16 + 4 * (20 + 16) + 5 * (24 + 16)


def test_a_looser_bound_costs_no_more() -> None:
    K = low_rank_factors((8, 14, 16), 12, (4, 5, 6)) + 2.0 * gaussian(8, 14, 16)
    least = stable_cp(K, 12, START).relative_error
    sizes = [cp_low_rank_bounded(K, 12, slack * least, USUAL).factors.parameters for slack in (1.02, 1.2, 1.6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_lowered_ranks_save_numbers_and_stay_within_the_share() -> None:
    K = low_rank_factors((8, 14, 16), 12, (4, 5, 6))
    X = K / K.norm()
    sweeps = LowRankSweeps(X, stable_cp(X, 12, START).factors, PLAIN, (None, None, None))
    ranks = lower_ranks(sweeps, sweeps.squared_error + 0.05, 0.5)
    assert any(r is not None for r in ranks)
    for mode, r in enumerate(ranks):
        size = X.shape[mode]
        if r is not None:
            assert r * (size + 12) < size * 12
            errors = sweeps.update(mode, list(sweeps.cp.factors))[2]
            assert float(errors[r - 1] - errors[-1]) <= 0.025 + 1e-12
    noise = LowRankSweeps(gaussian(8, 14, 16) / gaussian(8, 14, 16).norm(), sweeps.cp, PLAIN, (None, None, None))
    assert lower_ranks(noise, noise.squared_error, 1.0) == (None, None, None)


def test_the_norm_of_the_inputs_is_taken_off_the_input_side() -> None:
    rows = gaussian(200, 6, seed=3) @ gaussian(6, 6, seed=4)
    root = torch.linalg.cholesky(rows.mT @ rows / 200).mT
    K = gaussian(9, 6, 8)
    for ranks in ((None, 3, 4), (None, None, 4)):
        weighted = mode_product(K, root, 1)
        solution = cp_low_rank(weighted, 10, ranks, SHORT)
        plain = solution.factors.times_input(torch.linalg.inv(root))
        error = (mode_product(K - plain.full(), root, 1)).norm() / weighted.norm()
        assert float(error) == pytest.approx(solution.relative_error, abs=1e-9)
        assert plain.parameters == solution.factors.parameters


@pytest.mark.parametrize("case", CASES)
def test_every_difficult_tensor_has_an_answer(case: str) -> None:
    K = CASES[case]()
    ranks = tuple(min(2, size) for size in K.shape)
    solution = cp_low_rank(K, 3, ranks, SHORT)
    assert 0.0 <= solution.relative_error <= 1.0 + 1e-9
    assert bool(torch.isfinite(solution.factors.full()).all())
    assert solution.factors.full().shape == K.shape


@pytest.mark.parametrize("case", [name for name in CASES if name != "zero"])
def test_every_difficult_tensor_keeps_a_bound(case: str) -> None:
    K = CASES[case]()
    bound = min(0.95, 1.2 * stable_cp(K, 5, START).relative_error + 0.05)
    assert cp_low_rank_bounded(K, 5, bound, SHORT).relative_error <= bound * (1 + 1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_factors_come_back_in_the_type_of_the_tensor(dtype: torch.dtype) -> None:
    factors = cp_low_rank(gaussian(4, 5, 6).to(dtype), 3, (None, 2, 3), SHORT).factors
    assert {U.dtype for U in (*factors.bases, *factors.core.factors) if U is not None} == {dtype}


def test_the_same_seed_gives_the_same_factors_and_memory_layout_changes_nothing() -> None:
    K = gaussian(6, 5, 4).permute(2, 1, 0)
    first, second = (cp_low_rank(X, 4, (None, 3, 3), SHORT, seed=2).factors.full() for X in (K, K.contiguous()))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
    again = cp_low_rank(K, 4, (None, 3, 3), SHORT, seed=2).factors.full()
    assert torch.equal(first, again)


K = gaussian(3, 4, 5)
WRONG = {
    "rank 0": (lambda: cp_low_rank(K, 0, (None, 2, 2)), "got 0"),
    "factor rank 0": (lambda: cp_low_rank(K, 2, (None, 0, 2)), r"got \(None, 0, 2\)"),
    "factor rank above": (lambda: cp_low_rank(K, 2, (4, 2, 2)), r"1 ... \(3, 4, 5\)"),
    "NaN": (lambda: cp_low_rank(K * math.nan, 2, (None, 2, 2)), "NaN"),
    "Inf": (lambda: cp_low_rank_bounded(K * math.inf, 2, 0.5), "NaN or Inf"),
    "order 2": (lambda: cp_low_rank(K[0], 2, (None, 2, 2)), "order 3"),
    "bound 0": (lambda: cp_low_rank_bounded(K, 2, 0.0), r"\(0, 1\); got 0.0"),
    "bound 1": (lambda: cp_low_rank_bounded(K, 2, 1.0), r"got 1.0"),
    "out of reach": (lambda: cp_low_rank_bounded(K, 1, 0.01), "rank 1 reaches 0"),
    "no share": (lambda: LowRankOptions(share=0.0), "share above 0"),
    "negative penalty": (lambda: LowRankOptions(penalty=-1.0), "penalty is >= 0"),
    "no round": (lambda: LowRankOptions(rounds=0), "at least one sweep"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_requests_are_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
