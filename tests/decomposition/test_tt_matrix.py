"""A matrix as a matrix tensor train: by SVD, rounded, and refined in the norm of its inputs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.algebra import TTMatrixTensor, largest_tt_ranks
from polyadic.decomposition import (
    StopReason,
    TTALSOptions,
    tt_matrix,
    tt_matrix_als,
    tt_matrix_round,
    tt_svd,
    tt_svd_bounded,
)
from polyadic.errors import DecompositionError

MODES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=4)


def interleaved(W: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """Entry by entry: digits of the row and of the column, the first slowest, paired."""
    X = torch.zeros([m * n for m, n in zip(rows, columns, strict=True)], dtype=W.dtype)
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            index, row, column = [], i, j
            for m, n in zip(reversed(rows), reversed(columns), strict=True):
                index.append((row % m) * n + column % n)
                row, column = row // m, column // n
            X[tuple(reversed(index))] = W[i, j]
    return X


def largest(rows: tuple[int, ...], columns: tuple[int, ...], most: int | None = None) -> tuple[int, ...]:
    return largest_tt_ranks(tuple(m * n for m, n in zip(rows, columns, strict=True)), most)


def decaying_root(size: int, seed: int = 0) -> Tensor:
    """Inputs whose directions fall in energy, as those of trained networks do."""
    Q = torch.linalg.qr(gaussian(size, size, seed=seed)).Q
    return (Q / torch.arange(1, size + 1).sqrt()) @ Q.mT


def weighted_error(W: Tensor, approximation: TTMatrixTensor, root: Tensor) -> float:
    return float(((W - approximation.full()) @ root).norm() / (W @ root).norm())


@given(MODES)
def test_full_ranks_are_exact(modes: list[tuple[int, int]]) -> None:
    rows, columns = zip(*modes, strict=True)
    W = gaussian(math.prod(rows), math.prod(columns))
    solution = tt_matrix(W, rows, columns, ranks=largest(rows, columns))
    torch.testing.assert_close(solution.factors.full(), W, rtol=1e-10, atol=1e-10)
    assert solution.relative_error < 1e-13


@given(MODES, st.integers(1, 4), st.floats(0.0, 0.9))
def test_it_is_the_train_of_the_rearranged_entries(modes: list[tuple[int, int]], most: int, error: float) -> None:
    rows, columns = zip(*modes, strict=True)
    W = gaussian(math.prod(rows), math.prod(columns))
    X = interleaved(W, rows, columns)
    ranks = largest(rows, columns, most)
    by_ranks, by_error = tt_matrix(W, rows, columns, ranks=ranks), tt_matrix(W, rows, columns, error=error)
    assert by_ranks.relative_error == pytest.approx(tt_svd(X, ranks).relative_error, abs=1e-12)
    assert by_error.factors.ranks == tt_svd_bounded(X, error).factors.ranks
    for solution in (by_ranks, by_error):
        measured = float((W - solution.factors.full()).norm() / W.norm())
        assert solution.relative_error == pytest.approx(measured, abs=1e-10)
        assert (solution.factors.row_modes, solution.factors.column_modes) == (rows, columns)
    assert by_error.relative_error <= error + 1e-12


def test_a_kronecker_product_is_found_at_rank_one() -> None:
    W = torch.kron(gaussian(3, 4), gaussian(5, 2))
    solution = tt_matrix(W, (3, 5), (4, 2), error=1e-9)
    assert solution.factors.ranks == (1,)
    assert solution.relative_error < 1e-12


def test_the_price_is_passed_on() -> None:
    W = gaussian(27, 8)
    dear_first = tt_matrix(W, (3, 3, 3), (2, 2, 2), error=0.5, weights=(1000.0, 1.0, 1.0)).factors.ranks
    dear_last = tt_matrix(W, (3, 3, 3), (2, 2, 2), error=0.5, weights=(1.0, 1.0, 1000.0)).factors.ranks
    assert dear_first[0] < dear_last[0]


def test_the_sum_of_two_rounds_without_the_matrix() -> None:
    one = tt_matrix(gaussian(8, 27), (2, 2, 2), (3, 3, 3), ranks=(2, 2)).factors
    twice = tt_matrix_round(one + one, error=1e-10)
    assert twice.factors.ranks == (2, 2)
    torch.testing.assert_close(twice.factors.full(), 2 * one.full(), rtol=1e-9, atol=1e-9)
    smaller = tt_matrix_round(one, ranks=(1, 2))
    measured = float((smaller.factors.full() - one.full()).norm() / one.full().norm())
    assert smaller.factors.ranks == (1, 2)
    assert smaller.relative_error == pytest.approx(measured, rel=1e-9)


def test_a_kernel_as_a_matrix_of_taps_and_outputs_by_inputs_is_met() -> None:
    K = gaussian(9, 8, 12)  # D^2 x S x T
    W = K.permute(0, 2, 1).reshape(9 * 12, 8)
    full = tt_matrix(W, (9, 3, 4), (1, 2, 4), ranks=largest((9, 3, 4), (1, 2, 4))).factors.full()
    torch.testing.assert_close(full.reshape(9, 12, 8).permute(0, 2, 1), K, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cores_come_back_in_the_type_of_the_matrix(dtype: torch.dtype) -> None:
    W = gaussian(6, 8).to(dtype)
    start = tt_matrix(W, (2, 3), (4, 2), ranks=(3,))
    for solution in (start, tt_matrix_als(W, start.factors), tt_matrix_als(W, start.factors, decaying_root(8))):
        assert {G.dtype for G in solution.factors.cores} == {dtype}
        measured = float((W - solution.factors.full()).double().norm() / W.double().norm())
        assert solution.relative_error == pytest.approx(measured, abs=8 * torch.finfo(dtype).eps)


def test_plain_refinement_is_als_of_the_rearranged_entries() -> None:
    W = gaussian(8, 27)
    start = tt_matrix(W, (2, 2, 2), (3, 3, 3), ranks=(2, 2))
    refined = tt_matrix_als(W, start.factors)
    assert refined.relative_error < start.relative_error
    assert refined.factors.ranks == (2, 2)


@given(st.integers(0, 50), st.integers(1, 3))
def test_refinement_in_the_norm_of_the_inputs_never_raises_the_weighted_error(seed: int, rank: int) -> None:
    W, root = gaussian(12, 8, seed=seed), decaying_root(8, seed)
    start = tt_matrix(W, (3, 4), (2, 4), ranks=(rank,)).factors
    solution = tt_matrix_als(W, start, root)
    errors = [weighted_error(W, start, root), *solution.history]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))
    assert solution.history[-1] == pytest.approx(weighted_error(W, solution.factors, root), rel=1e-9)
    assert solution.factors.ranks == start.ranks


def test_refinement_in_the_norm_of_the_inputs_ends_where_no_core_can_be_improved() -> None:
    W, root = gaussian(12, 8), decaying_root(8)
    start = tt_matrix(W, (3, 4), (2, 4), ranks=(2,)).factors
    solution = tt_matrix_als(W, start, root, TTALSOptions(max_sweeps=2000, tolerance=1e-13))
    assert solution.history[-1] < 0.97 * weighted_error(W, start, root)
    for k, G in enumerate(solution.factors.cores):
        columns = []
        for entry in torch.eye(G.numel(), dtype=torch.float64):
            cores = list(solution.factors.cores)
            cores[k] = entry.reshape(G.shape)
            columns.append((TTMatrixTensor(tuple(cores)).full() @ root).flatten())
        design, target = torch.stack(columns, dim=1), (W @ root).flatten()[:, None]
        best = design @ torch.linalg.lstsq(design, target, driver="gelsd").solution
        assert solution.history[-1] == pytest.approx(float((target - best).norm() / target.norm()), abs=1e-6)


def test_equal_inputs_make_the_weighted_error_the_plain_one() -> None:
    W = gaussian(12, 8)
    root = 2 * torch.eye(8, dtype=torch.float64)
    start = tt_matrix(W, (3, 4), (2, 4), ranks=(2,)).factors
    weighted = tt_matrix_als(W, start, root)
    assert weighted.history[-1] == pytest.approx(weighted.relative_error, rel=1e-9)
    assert weighted.relative_error == pytest.approx(tt_matrix_als(W, start).relative_error, rel=1e-3)


def test_any_root_of_the_second_moment_serves() -> None:
    W, root = gaussian(12, 8), decaying_root(8)
    start = tt_matrix(W, (3, 4), (2, 4), ranks=(2,)).factors
    symmetric, triangular = (tt_matrix_als(W, start, r) for r in (root, torch.linalg.cholesky(root @ root.mT)))
    assert triangular.history == pytest.approx(symmetric.history, rel=1e-9)
    torch.testing.assert_close(triangular.factors.full(), symmetric.factors.full(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_zero_tiny_and_huge_matrices_are_refined(factor: float) -> None:
    W, root = gaussian(12, 8), decaying_root(8)
    expected = tt_matrix_als(W, tt_matrix(W, (3, 4), (2, 4), ranks=(2,)).factors, root)
    start = tt_matrix(factor * W, (3, 4), (2, 4), ranks=(2,)).factors
    solution = tt_matrix_als(factor * W, start, root)
    torch.testing.assert_close(solution.factors.full(), factor * expected.factors.full(), rtol=1e-6, atol=1e-9 * factor)
    assert isinstance(solution.stop, StopReason)


W = gaussian(6, 8)
START = tt_matrix(W, (2, 3), (4, 2), ranks=(3,)).factors
WRONG = {
    "rows": (lambda: tt_matrix(W, (2, 2), (4, 2), ranks=(1,)), r"multiply to M and N; got \(2, 2\)"),
    "columns": (lambda: tt_matrix(W, (2, 3), (4, 4), ranks=(1,)), r"\(4, 4\) for shape \(6, 8\)"),
    "one mode": (lambda: tt_matrix(W, (6,), (8,), ranks=()), "two or more"),
    "none": (lambda: tt_matrix(W, (), (), ranks=()), "two or more"),
    "more rows": (lambda: tt_matrix(W, (2, 3, 1), (4, 2), ranks=(1,)), "as many"),
    "negative modes": (lambda: tt_matrix(W, (-2, -3), (4, 2), ranks=(1,)), "multiply"),
    "order 3": (lambda: tt_matrix(gaussian(2, 2, 2), (2, 2), (2, 1), ranks=(1,)), r"\(2, 2, 2\)"),
    "neither": (lambda: tt_matrix(W, (2, 3), (4, 2)), "ranks or an error bound"),
    "both": (lambda: tt_matrix(W, (2, 3), (4, 2), ranks=(1,), error=0.1), "ranks or an error bound"),
    "rank above": (lambda: tt_matrix(W, (2, 3), (4, 2), ranks=(7,)), "= 6; got"),
    "NaN": (lambda: tt_matrix(W * math.nan, (2, 3), (4, 2), error=0.1), "NaN"),
    "start of another shape": (lambda: tt_matrix_als(gaussian(8, 6), START), "multiply to M and N"),
    "root of another size": (lambda: tt_matrix_als(W, START, decaying_root(6)), r"root 8 x 8; got \(6, 6\)"),
    "NaN root": (lambda: tt_matrix_als(W, START, decaying_root(8) * math.nan), "finite root 8 x 8"),
    "NaN start": (lambda: tt_matrix_als(W, START.map(lambda G: math.nan * G), decaying_root(8)), "finite cores"),
    "NaN matrix": (lambda: tt_matrix_als(W * math.nan, START, decaying_root(8)), "NaN"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
