"""Unfoldings of a tensor and products with factor matrices (Kolda and Bader, SIAM Review 2009).

Gram, Khatri-Rao, mode-n product, MTTKRP; and a convolution kernel between the layouts of PyTorch and of the literature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def unfold(X: Tensor, mode: int) -> Tensor:
    """The unfolding ``X_(mode)`` of ``X`` (I_1 x ... x I_N) along one mode, I_mode x (product of the other sizes).

    The columns run through the other modes in their order, the last fastest.
    """
    return torch.movedim(X, mode, 0).reshape(X.shape[mode], -1)


def kernel_to_order3(K: Tensor) -> Tensor:
    """PyTorch's kernel ``T x S x D1 x D2 ...`` as the literature's ``(D1 D2 ...) x S x T``.

    Source: Phan et al. 2020, eq. 2.
    """
    T, S = K.shape[:2]
    return K.reshape(T, S, -1).permute(2, 1, 0)


def order3_to_kernel(X: Tensor, window: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`kernel_to_order3`: ``(prod(window)) x S x T`` to ``T x S x window``.

    Raises:
        ValueError: a window that does not have as many taps as the first mode.
    """
    I, S, T = X.shape
    if math.prod(window) != I:
        raise ValueError(f"a window {window} has {math.prod(window)} taps, but the tensor's first mode has {I}")
    return X.permute(2, 1, 0).reshape(T, S, *window)


def gram(U: Tensor) -> Tensor:
    """``U' U`` (... x R x R) of a factor matrix ``U`` (... x I x R)."""
    return U.mT @ U


def gram_product(factors: Sequence[Tensor], skip: int) -> Tensor:
    """Elementwise product of the Grams (... x R x R) of all factors but ``skip``: ``(BtB) * (CtC)`` for ``skip=0``.

    Raises:
        ValueError: no other factor.
    """
    product: Tensor | None = None
    for mode, U in enumerate(factors):
        if mode != skip:
            product = gram(U) if product is None else product * gram(U)
    if product is None:
        raise ValueError("a Gram product needs at least two factors; got one")
    return product


def khatri_rao(P: Tensor, Q: Tensor) -> Tensor:
    """Column-wise Kronecker product, ... x (I J) x R, of ``P`` (... x I x R) and ``Q`` (... x J x R).

    The row index of ``Q`` runs fastest.
    """
    return (P[..., :, None, :] * Q[..., None, :, :]).flatten(-3, -2)


def mode_product(X: Tensor, M: Tensor, mode: int) -> Tensor:
    """``X x_mode M``: the tensor whose ``mode`` unfolding is ``M X_(mode)``; ``M`` is (new size) x (old size)."""
    return torch.movedim(torch.tensordot(M, X, dims=([1], [mode])), 0, mode)


def mttkrp(X: Tensor, factors: Sequence[Tensor], mode: int) -> Tensor:
    """Matricised tensor times Khatri-Rao product: ``X_(mode) Z`` (I_mode x R), contracted mode after mode.

    Args:
        X: I_1 x ... x I_N.
        factors: N matrices, number n of shape I_n x R; that of ``mode`` is not looked at.
        mode: counted from 0.

    Raises:
        ValueError: factors of different numbers of columns.
    """
    columns = factors[0].shape[1]
    letters = "ijklmnop"[: X.ndim]
    result, left = X, letters
    # the last mode first: it is contiguous, so the first and largest product is a GEMM
    for m in reversed(range(X.ndim)):
        if m == mode:
            continue
        joined = left if left.endswith("r") else left + "r"
        kept = joined.replace(letters[m], "")
        result = torch.einsum(f"{left},{letters[m]}r->{kept}", result, factors[m])
        left = kept
    if result.shape[-1] != columns:
        raise ValueError(f"every factor needs {columns} columns")
    return result
