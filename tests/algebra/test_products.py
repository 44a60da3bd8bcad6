"""Products against loops, and against two independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
import pyttb
import tensorly
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from cases import gaussian, gaussian_cp
from polyadic.algebra import (
    gram,
    gram_product,
    kernel_to_order3,
    khatri_rao,
    mode_product,
    mttkrp,
    order3_to_kernel,
    unfold,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SIZES = st.integers(1, 4)
SHAPES = st.lists(SIZES, min_size=2, max_size=4).map(tuple)


@given(SIZES, SIZES, SIZES)
def test_khatri_rao_is_the_kronecker_product_of_columns(I: int, J: int, R: int) -> None:
    P, Q = gaussian(I, R), gaussian(J, R, seed=1)
    torch.testing.assert_close(khatri_rao(P, Q), oracles.khatri_rao(P, Q), **CLOSE)
    np.testing.assert_allclose(khatri_rao(P, Q), tensorly.tenalg.khatri_rao([P.numpy(), Q.numpy()]), atol=1e-12)


@given(SHAPES)
def test_unfolding_lays_the_other_modes_out_with_the_last_fastest(shape: tuple[int, ...]) -> None:
    X = gaussian(*shape)
    for mode in range(len(shape)):
        assert torch.equal(unfold(X, mode), oracles.unfolded(X, mode))
        np.testing.assert_array_equal(unfold(X, mode), tensorly.unfold(X.numpy(), mode))


@given(SHAPES, SIZES)
def test_mode_product_multiplies_the_unfolding(shape: tuple[int, ...], rows: int) -> None:
    X = gaussian(*shape)
    for mode, size in enumerate(shape):
        M = gaussian(rows, size, seed=2)
        Y = mode_product(X, M, mode)
        torch.testing.assert_close(oracles.unfolded(Y, mode), M @ oracles.unfolded(X, mode), **CLOSE)
        expected = pyttb.tensor(X.numpy()).ttm(M.numpy(), mode).data
        np.testing.assert_allclose(Y, expected.reshape(Y.shape), atol=1e-12)


@given(SHAPES, SIZES)
def test_mttkrp_is_the_unfolding_times_the_khatri_rao_product(shape: tuple[int, ...], R: int) -> None:
    X, factors = gaussian(*shape), gaussian_cp(shape, R).factors
    arrays = [U.numpy() for U in factors]
    for mode in range(len(shape)):
        G = mttkrp(X, factors, mode)
        torch.testing.assert_close(G, oracles.unfolded(X, mode) @ oracles.partner_product(factors, mode), **CLOSE)
        np.testing.assert_allclose(G, pyttb.tensor(X.numpy()).mttkrp(arrays, mode).reshape(G.shape), atol=1e-12)


@given(SHAPES, SIZES)
def test_gram_product_is_the_gram_of_the_khatri_rao_product(shape: tuple[int, ...], R: int) -> None:
    factors = gaussian_cp(shape, R).factors
    for mode in range(len(shape)):
        Z = oracles.partner_product(factors, mode)
        torch.testing.assert_close(gram_product(factors, skip=mode), gram(Z), **CLOSE)


@given(st.integers(1, 3), st.lists(SIZES, min_size=2, max_size=4), SIZES)
def test_products_of_a_batch_are_those_of_its_members(members: int, sizes: list[int], R: int) -> None:
    factors = [gaussian(members, size, R, seed=size) for size in sizes]
    P, Q = factors[:2]
    for b in range(members):
        torch.testing.assert_close(khatri_rao(P, Q)[b], oracles.khatri_rao(P[b], Q[b]), **CLOSE)
        torch.testing.assert_close(gram(P)[b], P[b].mT @ P[b], **CLOSE)
        for mode in range(len(sizes)):
            single = gram_product([U[b] for U in factors], skip=mode)
            torch.testing.assert_close(gram_product(factors, skip=mode)[b], single, **CLOSE)


def test_gram_product_refuses_a_single_factor() -> None:
    with pytest.raises(ValueError, match="at least two factors"):
        gram_product([gaussian(2, 2)], skip=0)


@given(SIZES, SIZES, st.lists(SIZES, min_size=0, max_size=3).map(tuple))
def test_a_kernel_survives_the_way_to_order_3_and_back(T: int, S: int, window: tuple[int, ...]) -> None:
    K = gaussian(T, S, *window)
    X = kernel_to_order3(K)
    assert torch.equal(order3_to_kernel(X, window), K)
    for d, index in enumerate(np.ndindex(window)):
        assert torch.equal(X[d], K[(slice(None), slice(None), *index)].mT)


def test_a_window_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="9 taps, but the tensor's first mode has 4"):
        order3_to_kernel(gaussian(4, 2, 2), (3, 3))
