"""The truncated SVD: best of its rank."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import gaussian
from polyadic.decomposition import StopReason, truncated_svd
from polyadic.decomposition import svd as module
from polyadic.decomposition.svd import singular_values


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_the_error_is_the_tail_of_the_singular_values(rows: int, columns: int, data: st.DataObject) -> None:
    """Eckart and Young: no matrix of that rank is closer."""
    M = gaussian(rows, columns)
    rank = data.draw(st.integers(1, min(rows, columns)))
    solution = truncated_svd(M, rank)
    tail = torch.linalg.svdvals(M)[rank:].norm() / M.norm()
    assert solution.relative_error == pytest.approx(float(tail), abs=1e-12)
    assert float((M - solution.factors.full()).norm() / M.norm()) == pytest.approx(float(tail), abs=1e-12)
    assert solution.stop is StopReason.CLOSED_FORM


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 1000))
def test_no_random_matrix_of_the_rank_is_closer(rows: int, columns: int, seed: int) -> None:
    M = gaussian(rows, columns)
    left = gaussian(rows, 1, seed=seed)
    projected = left @ torch.linalg.lstsq(left, M).solution
    assert truncated_svd(M, 1).relative_error <= float((M - projected).norm() / M.norm()) + 1e-12


def test_both_sides_carry_the_root_of_the_singular_values() -> None:
    P, Q = vars(truncated_svd(gaussian(5, 7), 3).factors).values()
    torch.testing.assert_close(P.mT @ P, Q @ Q.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("M", [torch.zeros(3, 4), torch.zeros(3, 4).double()])
def test_a_zero_matrix_is_met(M: torch.Tensor) -> None:
    solution = truncated_svd(M, 2)
    assert solution.relative_error == 0.0
    assert not solution.factors.full().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (1, 6), (6, 1)])
def test_the_full_rank_is_exact_in_every_type(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    M = gaussian(*shape).to(dtype)
    solution = truncated_svd(M, min(shape))
    assert solution.factors.P.dtype == dtype
    assert solution.relative_error < 4 * torch.finfo(dtype).eps


def test_a_transposed_matrix_in_memory_changes_nothing() -> None:
    M = gaussian(5, 7)
    assert truncated_svd(M.mT, 2).relative_error == pytest.approx(truncated_svd(M, 2).relative_error, rel=1e-10)


LARGE = mock.patch.multiple(module, _LARGE=0, _SLICE=7)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)])
@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_large_matrix_is_met_as_well_through_its_gram(shape: tuple[int, int], rank: int, dtype: torch.dtype) -> None:
    M = gaussian(*shape).to(dtype)
    small, values = truncated_svd(M, rank), singular_values(M)
    with LARGE:
        large = truncated_svd(M, rank)
        torch.testing.assert_close(singular_values(M), values, rtol=1e-7, atol=1e-7)
    assert large.relative_error == pytest.approx(small.relative_error, abs=1e-12 if dtype is torch.float64 else 1e-6)
    torch.testing.assert_close(large.factors.full(), small.factors.full(), rtol=1e-5, atol=1e-5)
    P, Q = large.factors.tensors()
    torch.testing.assert_close(P.mT @ P, Q @ Q.mT, rtol=1e-4, atol=1e-4)
    assert P.dtype == dtype


def test_directions_below_the_rounding_of_a_gram_are_not_lost() -> None:
    """Singular values from 1 to 1e-11: the Gram holds squares to 1e-16, its eigenvectors still span the matrix."""
    U, V = (torch.linalg.qr(gaussian(size, 12, seed=size)).Q for size in (12, 40))
    M = U * torch.logspace(0, -11, 12).double() @ V.mT
    with LARGE:
        assert truncated_svd(M, 12).relative_error < 1e-14
        assert truncated_svd(M, 3).relative_error == pytest.approx(truncated_svd(M.clone(), 3).relative_error)


def test_a_large_zero_matrix_is_met() -> None:
    with LARGE:
        solution = truncated_svd(torch.zeros(5, 9), 3)
    assert solution.relative_error == 0.0
    assert not solution.factors.full().any()
