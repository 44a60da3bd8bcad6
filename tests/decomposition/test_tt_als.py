"""ALS at the ranks of a tensor train."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, gaussian
from polyadic.algebra import TensorTrain, largest_tt_ranks
from polyadic.decomposition import StopReason, TTALSOptions, tt_als, tt_svd
from polyadic.decomposition.tt_als import sweep_cores
from polyadic.errors import DecompositionError

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)


def best_core(X: Tensor, train: TensorTrain, k: int) -> Tensor:
    """Least squares for the entries of core k, one column of the design for each."""
    G = train.cores[k]
    columns = []
    for entry in range(G.numel()):
        unit = torch.zeros_like(G).flatten()
        unit[entry] = 1.0
        cores = (*train.cores[:k], unit.reshape(G.shape), *train.cores[k + 1 :])
        columns.append(TensorTrain(cores).full().flatten())
    design = torch.stack(columns, dim=1)
    return torch.linalg.lstsq(design, X.flatten()[:, None]).solution.reshape(G.shape)


@given(SHAPES, st.integers(1, 4), st.integers(0, 50))
def test_the_error_never_rises_and_is_no_more_than_at_the_start(shape: tuple[int, ...], most: int, seed: int) -> None:
    X = gaussian(*shape, seed=seed)
    start = tt_svd(X, largest_tt_ranks(shape, most))
    solution = tt_als(X, start.factors)
    errors = [start.relative_error, *solution.history]
    assert all(later <= earlier + 1e-7 for earlier, later in itertools.pairwise(errors))
    assert solution.relative_error <= start.relative_error + 1e-12
    assert solution.relative_error == pytest.approx(solution.history[-1], abs=1e-7)
    assert solution.factors.ranks == start.factors.ranks


def test_no_core_can_be_improved_after_convergence() -> None:
    X = gaussian(4, 5, 6)
    start = TensorTrain((gaussian(1, 4, 2), gaussian(2, 5, 3), gaussian(3, 6, 1)))
    solution = tt_als(X, start, TTALSOptions(max_sweeps=500, tolerance=1e-12))
    assert solution.stop is StopReason.CONVERGED
    for k in range(3):
        cores = list(solution.factors.cores)
        cores[k] = best_core(X, solution.factors, k)
        improved = float((X - TensorTrain(tuple(cores)).full()).norm() / X.norm())
        assert solution.relative_error == pytest.approx(improved, abs=1e-8)


def test_a_sweep_ends_with_the_best_last_core_for_the_cores_before_it() -> None:
    X = gaussian(4, 5, 6)
    train = sweep_cores(X, tt_svd(gaussian(4, 5, 6, seed=1), (2, 3)).factors.left_orthogonal())
    torch.testing.assert_close(train.cores[-1], best_core(X, train, 2), rtol=1e-9, atol=1e-9)
    for G in train.cores[:-1]:
        Q = G.flatten(0, 1)
        torch.testing.assert_close(Q.mT @ Q, torch.eye(Q.shape[1], dtype=Q.dtype), rtol=1e-10, atol=1e-10)


def test_a_planted_train_is_found_from_a_start_beside_it() -> None:
    planted = TensorTrain((gaussian(1, 4, 2), gaussian(2, 5, 2), gaussian(2, 6, 1)))
    start = TensorTrain(tuple(G + 0.1 * gaussian(*G.shape, seed=9) for G in planted.cores))
    assert tt_als(planted.full(), start, TTALSOptions(100, 1e-9)).relative_error < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_difficult_tensors_come_back_no_worse(case: str) -> None:
    K = CASES[case]()
    start = tt_svd(K, largest_tt_ranks(tuple(K.shape), 2))
    solution = tt_als(K, start.factors)
    assert solution.relative_error <= start.relative_error + 1e-12
    assert len(solution.history) == solution.sweeps


def test_ranks_of_the_start_that_do_not_fit_fall() -> None:
    X = gaussian(2, 3, 2)
    start = TensorTrain((gaussian(1, 2, 5), gaussian(5, 3, 4), gaussian(4, 2, 1)))
    solution = tt_als(X, start)
    assert solution.factors.ranks == (2, 2)
    assert solution.relative_error < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cores_come_back_in_the_type_of_the_tensor(dtype: torch.dtype) -> None:
    X = gaussian(4, 5, 6).to(dtype)
    solution = tt_als(X, tt_svd(X, (3, 3)).factors)
    assert {G.dtype for G in solution.factors.cores} == {dtype}
    assert solution.relative_error == pytest.approx(
        tt_als(X.double(), tt_svd(X.double(), (3, 3)).factors).relative_error, abs=8 * torch.finfo(dtype).eps
    )


K = gaussian(3, 4, 5)
START = tt_svd(K, (2, 2)).factors
WRONG = {
    "another shape": (lambda: tt_als(gaussian(3, 5, 4), START), r"\(3, 5, 4\)"),
    "one mode": (lambda: tt_als(K[0, 0], TensorTrain((K[0, 0][None, :, None],))), "order 2 or more"),
    "NaN": (lambda: tt_als(K * math.nan, START), "60 of 60 NaN or Inf"),
    "NaN start": (lambda: tt_als(K, START.scaled(math.nan)), "finite cores"),
    "no sweep": (lambda: TTALSOptions(max_sweeps=0), "max_sweeps = 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
