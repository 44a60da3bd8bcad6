"""Laws that every decomposition keeps, on tensors of every difficulty."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from solvers import CP_SOLVERS, KLM, SOLVERS
from torch import Tensor

from cases import CASES, batch_of, gaussian
from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    EPCOptions,
    KLMOptions,
    LMOptions,
    RidgeOptions,
    Solution,
    StopReason,
    Tucker2Options,
    cp_als,
    cp_bounded,
    cp_epc,
    cp_epc_rounds,
    cp_klm,
    cp_lm,
    cp_ridge_curve,
    exact_cp,
    tkd_cpd,
    truncated_svd,
    tucker2,
    tucker2_bounded,
    tucker2_rank_frontier,
)
from polyadic.errors import DecompositionError, PolyadicError

every_solver = pytest.mark.parametrize("solver", SOLVERS)
every_cp_solver = pytest.mark.parametrize("solver", CP_SOLVERS)
every_case = pytest.mark.parametrize("case", CASES)
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SEEDED = [solver for solver in CP_SOLVERS if "singular" not in solver]


def tensors_of(part: Any) -> list[Tensor]:
    """All tensors inside a factorisation."""
    if isinstance(part, Tensor):
        return [part]
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else vars(part).values()
    return [tensor for inner in parts for tensor in tensors_of(inner)]


def measured_error(K: Tensor, solution: Solution[Any]) -> float:
    """``||K - K^|| / ||K||`` from the factors as they came back (``||K^||`` for a zero tensor)."""
    double = solution.factors.to(torch.empty(0, dtype=torch.float64))
    X = K.double()
    return float((X - double.full()).norm() / (X.norm() if X.norm() > 0 else 1.0))


CASES_AND_RANKS = [  # rank 1 of every tensor is quick, higher ranks of one
    pytest.param(case, rank, marks=() if rank == 1 or case == "full rank" else pytest.mark.slow)
    for case in CASES
    for rank in (1, 3, 40)
]


@every_solver
@pytest.mark.parametrize(("case", "rank"), CASES_AND_RANKS)
def test_reported_error_is_the_measured_one(solver: str, case: str, rank: int) -> None:
    """Rank 40 is above every mode and above the rank at which every such tensor is exact."""
    K = CASES[case]()
    solution = SOLVERS[solver](K, rank, 0)
    assert solution.relative_error == pytest.approx(measured_error(K, solution), abs=1e-8)
    assert solution.factors.full().shape == K.shape
    assert all(bool(torch.isfinite(U).all()) for U in tensors_of(solution.factors))
    assert 0.0 <= solution.relative_error <= 1.0 + 1e-12
    assert isinstance(solution.stop, StopReason)
    assert len(solution.history) in (0, solution.sweeps)


@every_cp_solver
@every_case
def test_reported_stability_is_that_of_the_factors_at_unit_norm(solver: str, case: str) -> None:
    K = CASES[case]()
    solution = CP_SOLVERS[solver](K, 3, 0)
    assert solution.stability is not None
    norm = float(K.norm())
    unit = solution.factors.scaled(1.0 / norm if norm > 0 else 1.0)
    assert solution.stability.sensitivity == pytest.approx(float(unit.sensitivity()), rel=1e-6)
    assert solution.stability.sensitivity_lemma == pytest.approx(float(unit.rescaled().sensitivity_lemma()), rel=1e-6)
    assert solution.stability.sum_squared_intensity == pytest.approx(float(unit.sum_squared_intensity()), rel=1e-6)
    assert solution.stability.intensity_ratio >= 1.0


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("zero",)])
@pytest.mark.parametrize("rank", [1, 3])
def test_krylov_steps_report_what_is_measured(case: str, rank: int) -> None:
    K = CASES[case]()
    for solve in KLM.values():
        solution = solve(K, rank, 0)
        assert solution.relative_error == pytest.approx(measured_error(K, solution), abs=1e-8)
        assert solution.factors.full().shape == K.shape
        assert all(bool(torch.isfinite(U).all()) for U in tensors_of(solution.factors))


@every_solver
def test_the_same_seed_gives_the_same_factors_bit_for_bit(solver: str) -> None:
    K = gaussian(9, 6, 7)
    first, second = (tensors_of(SOLVERS[solver](K, 5, 3).factors) for _ in range(2))
    assert all(torch.equal(U, V) for U, V in zip(first, second, strict=True))


@pytest.mark.parametrize("solver", SEEDED)
def test_another_seed_gives_other_factors(solver: str) -> None:
    K = gaussian(9, 6, 7)
    first, second = (SOLVERS[solver](K, 5, seed).factors.factors[0] for seed in (0, 1))
    assert not torch.equal(first, second)


@every_solver
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_factors_come_back_in_the_type_and_on_the_device_of_the_tensor(
    solver: str, dtype: torch.dtype, device: str
) -> None:
    K = gaussian(4, 5, 6).to(device=device, dtype=dtype)
    solution = SOLVERS[solver](K, 3, 0)
    assert {(U.dtype, U.device.type) for U in tensors_of(solution.factors)} == {(dtype, device)}
    exact = SOLVERS[solver](K.double(), 3, 0)
    assert solution.relative_error == pytest.approx(exact.relative_error, abs=4 * torch.finfo(dtype).eps)


@every_solver
@pytest.mark.parametrize("factor", [2.0**-100, 2.0**10, 2.0**100])
def test_the_scale_of_the_tensor_changes_nothing_but_the_scale(solver: str, factor: float) -> None:
    K = gaussian(4, 5, 6)
    plain, scaled = SOLVERS[solver](K, 2, 0), SOLVERS[solver](factor * K, 2, 0)
    assert scaled.relative_error == pytest.approx(plain.relative_error, rel=1e-6)
    # EPC moves along a flat valley: rounding of the cube root of the norm grows to 1e-4 in a hundred sweeps
    torch.testing.assert_close(scaled.factors.full() / factor, plain.factors.full(), rtol=1e-2, atol=1e-2)
    if plain.stability and scaled.stability:
        assert scaled.stability.sensitivity == pytest.approx(plain.stability.sensitivity, rel=1e-3)


@every_solver
def test_the_layout_in_memory_changes_nothing(solver: str) -> None:
    K = CASES["permuted memory"]()
    assert not K.is_contiguous()
    assert SOLVERS[solver](K, 3, 0).relative_error == pytest.approx(
        SOLVERS[solver](K.contiguous(), 3, 0).relative_error, rel=1e-6
    )


@every_solver
def test_the_tensor_is_left_alone_and_its_graph_too(solver: str) -> None:
    K = gaussian(4, 5, 6).requires_grad_()
    before = K.detach().clone()
    assert not any(U.requires_grad for U in tensors_of(SOLVERS[solver](K, 3, 0).factors))
    assert torch.equal(K.detach(), before)


@every_solver
@pytest.mark.parametrize(
    ("K", "message"),
    [
        (torch.full((2, 3, 4), math.nan), "24 of 24 NaN or Inf"),
        (torch.ones(2, 3, 4).index_fill(0, torch.tensor(0), math.inf), "12 of 24 NaN or Inf"),
        (torch.ones(2, 3), "order 3"),
        (torch.ones(2, 0, 4), "without empty modes"),
        (torch.ones(2, 3, 4, dtype=torch.int64), "floating-point"),
        (torch.ones(2, 3, 4, dtype=torch.complex64), "floating-point"),
        (torch.full((2, 3, 4), 1e-200, dtype=torch.float64), "between 1e-100 and 1e100"),
        (torch.full((2, 3, 4), 1e200, dtype=torch.float64), "between 1e-100 and 1e100"),
    ],
    ids=["NaN", "Inf", "order 2", "empty", "integer", "complex", "1e-200", "1e200"],
)
def test_what_no_decomposition_can_serve_is_refused_with_a_sentence(solver: str, K: Tensor, message: str) -> None:
    with pytest.raises(DecompositionError, match=message):
        SOLVERS[solver](K, 1, 0)


@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if solver not in CP_SOLVERS])
def test_an_order_4_tensor_is_refused_by_the_decompositions_of_order_3(solver: str) -> None:
    with pytest.raises(DecompositionError, match=r"order 3 .* got shape \(2, 3, 4, 5\)"):
        SOLVERS[solver](torch.ones(2, 3, 4, 5), 1, 0)


@every_cp_solver
@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(solver: str, rank: int) -> None:
    with pytest.raises(DecompositionError, match=f"positive whole number; got {rank}"):
        CP_SOLVERS[solver](gaussian(3, 4, 5), rank, 0)


K = gaussian(3, 4, 5)
WRONG = {
    "svd rank 0": (lambda: truncated_svd(K[0], 0), "1 ... 4"),
    "svd rank above": (lambda: truncated_svd(K[0], 5), "got 5"),
    "svd of order 3": (lambda: truncated_svd(K, 1), "order 2"),
    "tucker2 rank 0": (lambda: tucker2(K, (0, 1)), r"got \(0, 1\)"),
    "tucker2 rank above": (lambda: tucker2(K, (4, 6)), "1 ... 4 and 1 ... 5"),
    "bound of 1": (lambda: tucker2_bounded(K, 1.0), r"\[0, 1\)"),
    "negative bound": (lambda: tucker2_bounded(K, -0.1), r"\[0, 1\)"),
    "NaN bound": (lambda: tucker2_bounded(K, math.nan), r"\[0, 1\)"),
    "no point": (lambda: tucker2_bounded(K, 0.1, options=Tucker2Options(frontier_points=0)), "frontier_points = 0"),
    "no grid": (lambda: Tucker2Options(grid=0), "grid = 0"),
    "frontier of NaN": (lambda: tucker2_rank_frontier(K * math.nan, max), "NaN"),
    "tkd with two bounds": (lambda: tkd_cpd(K, 1, ranks=(1, 1), tucker_error=0.1), "got both"),
    "tkd rank 0": (lambda: tkd_cpd(K, 0, ranks=(1, 1)), "got 0"),
    "tkd ranks above": (lambda: tkd_cpd(K, 1, ranks=(5, 1)), r"got \(5, 1\)"),
    "exact below full": (lambda: exact_cp(K, 11), "takes rank 12; got 11"),
    "no start": (lambda: ALSOptions(starts=0), "at least one start"),
    "unknown start": (lambda: cp_als(K, 1, ALSOptions(init="magic")), "random, singular; got 'magic'"),
    "rising penalties": (lambda: RidgeOptions(strongest=1e-9, weakest=1e-3), "goes down"),
    "constant penalties": (lambda: RidgeOptions(weakening=1.0), "goes down"),
    "negative slack": (lambda: cp_epc(K, ones(3, 4, 5), EPCOptions(error_slack=-0.1)), "fraction >= 0"),
    "NaN slack": (lambda: cp_epc(K, ones(3, 4, 5), EPCOptions(error_slack=math.nan)), "fraction >= 0"),
    "factors of another tensor": (lambda: cp_epc(K, ones(3, 4, 6)), r"\(3, 4, 6\)"),
    "factors of order 2": (lambda: cp_epc(K, ones(3, 4)), r"\(3, 4\)"),
    "NaN factors": (lambda: cp_epc(K, ones(3, 4, 5).scaled(math.nan)), "finite factors"),
    "a batch of factors": (lambda: cp_bounded(K, batch_of(ones(3, 4, 5))), r"one matrix per mode.*\[\(1, 3, 2\)"),
    "factors of different ranks": (lambda: cp_epc(K, ragged(2, 3, 2)), "same R >= 1 columns"),
    "factors without a term": (lambda: cp_klm(K, ragged(0, 0, 0)), "same R >= 1 columns"),
    "factors with and without terms": (lambda: cp_epc(K, ragged(2, 0, 2)), "same R >= 1 columns"),
    "negative delta": (lambda: EPCOptions(delta=-0.1), "fraction of"),
    "NaN delta": (lambda: EPCOptions(delta=math.nan), "fraction of"),
    "no round": (lambda: cp_epc_rounds(K, ones(3, 4, 5), 0), "at least one round; got 0"),
    "no sweep of als": (lambda: ALSOptions(max_sweeps=0), "at least one sweep; got 0"),
    "no sweep at a penalty": (lambda: RidgeOptions(max_sweeps=0), "at least one sweep; got 0"),
    "bound of 0": (lambda: BoundedOptions(bound=0.0), "bound on the sensitivity is above 0; got 0.0"),
    "NaN bound on a fit": (lambda: BoundedOptions(bound=math.nan), "got nan"),
    "no sweep of a fit": (lambda: BoundedOptions(max_sweeps=0), "at least one sweep; got 0"),
    "bounded fit of another tensor": (lambda: cp_bounded(K, ones(3, 4, 6)), r"\(3, 4, 6\)"),
    "negative penalty": (lambda: LMOptions(mu=-1.0), "mu is >= 0; got -1.0"),
    "no step": (lambda: LMOptions(max_steps=0), "at least one step"),
    "no inner step": (lambda: LMOptions(inner_steps=0), "one inner step"),
    "start of another rank": (lambda: cp_lm(K, 3, start=ones(3, 4, 5)), "rank 2, asked was 3"),
    "start of another tensor": (lambda: cp_lm(K, 2, start=ones(3, 4, 6)), r"\(3, 4, 6\)"),
    "start with NaN": (lambda: cp_lm(K, 2, start=ones(3, 4, 5).scaled(math.nan)), "finite factors"),
    "surface of no sensitivity": (lambda: KLMOptions(bound=0.0), "above 0; got 0.0"),
    "no Krylov vector": (lambda: KLMOptions(krylov=0), "one Krylov vector"),
    "klm of a zero tensor": (lambda: cp_klm(0.0 * K, ones(3, 4, 5)), "zero tensor or zero factors"),
    "klm of zero factors": (lambda: cp_klm(K, ones(3, 4, 5).scaled(0.0)), "zero tensor or zero factors"),
    "klm of another tensor": (lambda: cp_klm(K, ones(3, 4, 6)), r"\(3, 4, 6\)"),
    "curve of rank 0": (lambda: cp_ridge_curve(K, 0), "got 0"),
}


def ragged(*ranks: int) -> CPTensor:
    return CPTensor(
        tuple(torch.ones(size, rank, dtype=torch.float64) for size, rank in zip(K.shape, ranks, strict=True))
    )


def ones(*shape: int) -> CPTensor:
    return CPTensor(tuple(torch.ones(size, 2, dtype=torch.float64) for size in shape))


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_a_decomposition_error_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message) as caught:
        request()
    assert isinstance(caught.value, PolyadicError)
