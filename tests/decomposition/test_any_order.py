"""Every CP solver on tensors of order 4 and 5, of every difficulty and type."""

from __future__ import annotations

import math

import pytest
import torch
from solvers import CP_SOLVERS, KLM
from torch import Tensor

from cases import gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import Solution, StopReason, exact_cp, full_rank, stable_cp
from polyadic.errors import DecompositionError

ALL = {**CP_SOLVERS, **KLM}
every_solver = pytest.mark.parametrize("solver", ALL)
CASES = {
    "order 4": gaussian(3, 2, 4, 3),
    "order 5": gaussian(2, 3, 2, 2, 3),
    "exact rank": gaussian_cp((3, 4, 2, 3), 2, seed=5).full(),
    "1-wide modes": gaussian(1, 4, 1, 3),
    "one number": gaussian(1, 1, 1, 1),
    "tiny": 1e-30 * gaussian(3, 2, 4, 3),
    "huge": 1e30 * gaussian(2, 3, 2, 2, 3),
    "permuted memory": gaussian(3, 4, 2, 3).permute(2, 0, 3, 1),
    "constant": torch.ones(2, 3, 2, 3, dtype=torch.float64),
    "single precision": gaussian(3, 2, 4, 3).float(),
    "half precision": gaussian(3, 2, 4, 3).half(),
    "brain floats": gaussian(2, 3, 2, 2, 3).bfloat16(),
}


def measured(K: Tensor, solution: Solution[CPTensor]) -> float:
    """The relative error of the factors as they came back, by one sum over all indices."""
    letters = "ijklm"[: K.ndim]
    formula = ",".join(f"{letter}r" for letter in letters) + "->" + letters
    full = torch.einsum(formula, *(U.double() for U in solution.factors.factors))
    return float((K.double() - full).norm() / K.double().norm())


QUICK = ("order 4", "1-wide modes", "tiny", "half precision")


@every_solver
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_errors_are_the_measured_ones_and_factors_have_the_type_of_the_tensor(solver: str, case: str) -> None:
    K = CASES[case]
    solution = ALL[solver](K, 3, 0)
    assert solution.factors.shape == tuple(K.shape)
    assert solution.factors.rank == 3
    assert {U.dtype for U in solution.factors.factors} == {K.dtype}
    assert all(bool(torch.isfinite(U).all()) for U in solution.factors.factors)
    assert solution.relative_error == pytest.approx(measured(K, solution), abs=1e-8)
    assert solution.relative_error <= 1.0 + 1e-5  # Gauss-Newton steps may crawl towards the saddle at zero


@pytest.mark.parametrize("solver", CP_SOLVERS)
@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 1, 2, 3, 2)])
def test_a_zero_tensor_has_zero_factors(solver: str, shape: tuple[int, ...]) -> None:
    solution = CP_SOLVERS[solver](torch.zeros(shape), 2, 0)
    assert solution.relative_error == 0.0
    assert not solution.factors.full().any()


@every_solver
def test_more_terms_give_less_error(solver: str) -> None:
    K = gaussian(3, 2, 4, 3)
    errors = [ALL[solver](K, rank, 0).relative_error for rank in (1, 3, 7)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


@every_solver
def test_a_permutation_of_the_modes_changes_little_but_the_order(solver: str) -> None:
    """Solvers sort the modes; where sizes differ the iterates are the same."""
    K, order = gaussian(2, 3, 4, 5), (2, 0, 3, 1)
    plain, permuted = ALL[solver](K, 3, 0), ALL[solver](K.permute(order), 3, 0)
    assert permuted.relative_error == pytest.approx(plain.relative_error, rel=1e-5)
    assert permuted.stability.sensitivity == pytest.approx(plain.stability.sensitivity, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 2, 4, 3), (2, 3, 2, 2, 3)])
@pytest.mark.parametrize("extra", [0, 5])
def test_a_rank_that_always_suffices_is_exact(shape: tuple[int, ...], extra: int) -> None:
    K = gaussian(*shape)
    solution = stable_cp(K, full_rank(shape) + extra)
    assert solution.stop is StopReason.CLOSED_FORM
    assert solution.relative_error < 1e-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_an_exact_decomposition_is_exact_to_the_digits_of_its_type(dtype: torch.dtype) -> None:
    K = gaussian(2, 3, 2, 5).to(dtype)
    assert exact_cp(K, full_rank((2, 3, 2, 5))).relative_error < 2 * torch.finfo(dtype).eps


@every_solver
@pytest.mark.parametrize(
    ("K", "message"),
    [
        (gaussian(2, 3, 2, 2) * math.nan, "24 of 24 NaN"),
        (torch.ones(2, 3), "order 3 or more"),
        (torch.ones(2, 3, 0, 2), "without empty modes"),
        (torch.ones(2, 3, 2, 2, dtype=torch.int64), "floating-point"),
    ],
    ids=["NaN", "order 2", "empty", "integer"],
)
def test_what_no_solver_can_serve_is_refused(solver: str, K: Tensor, message: str) -> None:
    with pytest.raises(DecompositionError, match=message):
        ALL[solver](K, 1, 0)
