"""One sweep over the three factors of a CP decomposition, shared by every alternating solver.

A sweep needs the three MTTKRPs ``G_A = K_(1) (C (kr) B)``, ``G_B``, ``G_C``. Only two products touch the tensor:

    P   = K x_3 C'          (I x J x R, one product of 2 I J L R operations)
    G_A = sum_j P[:, j] * B[j]      then A is updated
    G_B = sum_i P[i] * A[i]         then B is updated
    G_C = K_(3) (A (kr) B)  (one product of 2 I J L R operations)      then C is updated

so the largest temporary is I x J x R. What distinguishes the solvers is only how a factor follows from ``G`` and from
the Gram ``Gamma`` of the two other factors; they pass that rule as ``update``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CP, gram, khatri_rao

Update: TypeAlias = "Callable[[Block], Tensor]"


@dataclass(frozen=True)
class Block:
    """Everything about the sub-problem of one factor.

    Attributes:
        mode: 0, 1, 2 for A, B, C.
        factor: the factor before its update (I_mode x R).
        G: MTTKRP of this mode (I_mode x R).
        Gamma: elementwise product of the two other Grams (R x R).
        weight: ``w^2`` (R), with ``sum_r w_r^2 ||column r||^2`` the part of the true sensitivity that this factor
            moves.
    """

    mode: int
    factor: Tensor
    G: Tensor
    Gamma: Tensor
    weight: Tensor


def unit_tensor(K: Tensor) -> tuple[Tensor, float]:
    """``K`` scaled to Frobenius norm 1 (left alone if zero) and its norm: every solver works at this scale."""
    norm = float(K.norm())
    return (K / norm if norm > 0 else K), norm


def sweep(K: Tensor, cp: CP, update: Update) -> tuple[CP, float]:
    """Update A, B and C of ``cp`` once, each by ``update``.

    Args:
        K: I x J x L, float64, norm 1.
        cp: the present factors.
        update: from the sub-problem of a factor to its new value.

    Returns:
        The new factors and their squared error ``||K - K^||^2``.
    """
    I, J, L = K.shape
    A, B, C = cp.factors
    AtA, BtB, CtC = gram(A), gram(B), gram(C)
    rows = K.reshape(I * J, L)
    P = (rows @ C).reshape(I, J, -1)

    G = torch.einsum("ijr,jr->ir", P, B)
    A = update(Block(0, A, G, BtB * CtC, J * CtC.diagonal() + L * BtB.diagonal()))
    AtA = gram(A)
    G = torch.einsum("ijr,ir->jr", P, A)
    B = update(Block(1, B, G, AtA * CtC, I * CtC.diagonal() + L * AtA.diagonal()))
    BtB = gram(B)
    G = rows.mT @ khatri_rao(A, B)
    Gamma = AtA * BtB
    C = update(Block(2, C, G, Gamma, I * BtB.diagonal() + J * AtA.diagonal()))

    # ||K - K^||^2 = ||K||^2 - 2 <K, K^> + ||K^||^2, and <K, K^> = sum(G * C): K^ is never formed
    error = K.square().sum() - 2.0 * (G * C).sum() + (Gamma * gram(C)).sum()
    return CP((A, B, C)), max(float(error), 0.0)


def solve_gram(Gamma: Tensor, G: Tensor) -> Tensor:
    """``G Gamma^(-1)`` for a Gram ``Gamma`` (R x R): by Cholesky, or of minimum norm over unit columns if singular."""
    L, info = torch.linalg.cholesky_ex(Gamma)

    # L_rr^2 / Gamma_rr is the part of column r that the columns before it do not span: below 1e-13 it is rounding,
    # and Cholesky would answer with terms that are huge and cancel
    if int(info) == 0 and bool((L.diagonal().square() > 1e-13 * Gamma.diagonal()).all()):
        solution: Tensor = torch.cholesky_solve(G.mT, L).mT
        return solution
    d = Gamma.diagonal().clamp_min(1e-200).sqrt()
    e, Q = torch.linalg.eigh(Gamma / torch.outer(d, d))
    kept = e > 1e-13 * e[-1].clamp_min(0.0)
    least: Tensor = (G / d @ Q[:, kept] / e[kept]) @ Q[:, kept].mT / d
    return least


def alive(cp: CP) -> CP:
    """``cp`` without its zero terms, which have no weight ``w`` (at least one term is kept)."""
    kept = cp.intensities() > 0
    if bool(kept.all()) or not bool(kept.any()):
        return cp
    return CP(tuple(U[:, kept] for U in cp.factors))
