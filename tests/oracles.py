"""Definitions, written as slowly as the papers write them, to compare the fast ones with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from polyadic.algebra import CP
from polyadic.decomposition.alternation import Block
from polyadic.layers import plain_layer
from polyadic.schema import ConvSpec


def khatri_rao(P: Tensor, Q: Tensor) -> Tensor:
    """Column r is the Kronecker product of the columns r."""
    return torch.stack([torch.kron(P[:, r], Q[:, r]) for r in range(P.shape[1])], dim=1)


def unfolded(X: Tensor, mode: int) -> Tensor:
    """Entry by entry: the row is the index of ``mode``, the column counts the others with the last fastest."""
    others = [range(size) for m, size in enumerate(X.shape) if m != mode]
    rows = []
    for i in range(X.shape[mode]):
        rows.append([float(X[(*index[:mode], i, *index[mode:])]) for index in itertools.product(*others)])
    return torch.tensor(rows, dtype=X.dtype)


def partner_product(factors: Sequence[Tensor], mode: int) -> Tensor:
    """``Z`` with ``X_(mode) = U_mode Z'``: the Khatri-Rao product of the other factors in their order."""
    first, *rest = [U for m, U in enumerate(factors) if m != mode]
    for U in rest:
        first = khatri_rao(first, U)
    return first


def cp_full(cp: CP) -> Tensor:
    """Every entry as the sum over r of the product of one number from each factor."""
    X = torch.zeros(cp.shape, dtype=torch.float64)
    for index in itertools.product(*(range(size) for size in cp.shape)):
        for r in range(cp.rank):
            X[index] += torch.stack([U[i, r] for U, i in zip(cp.factors, index, strict=True)]).prod()
    return X


def tucker2_full(G: Tensor, U: Tensor, V: Tensor) -> Tensor:
    """``sum_pq G[:, p, q] o U[:, p] o V[:, q]``."""
    X = torch.zeros(G.shape[0], U.shape[0], V.shape[0], dtype=G.dtype)
    for p, q in itertools.product(range(U.shape[1]), range(V.shape[1])):
        X += G[:, p, q][:, None, None] * U[:, p][None, :, None] * V[:, q][None, None, :]
    return X


def simulated_sensitivity(cp: CP, draws: int, sigma: float = 1e-6) -> float:
    """Mean of ``||X - X~||^2 / sigma^2`` over perturbations of every factor entry by N(0, sigma^2)."""
    generator = torch.Generator().manual_seed(0)
    X, total = cp.full(), 0.0
    for _ in range(draws):
        moved = [U + sigma * torch.randn(U.shape, generator=generator, dtype=U.dtype) for U in cp.factors]
        total += float((CP(tuple(moved)).full() - X).square().sum()) / sigma**2
    return total / draws


def block_of(X: Tensor, cp: CP, mode: int) -> Block:
    """The sub-problem of one factor from the unfolding and the Khatri-Rao product themselves."""
    Z = partner_product(cp.factors, mode)
    weight = torch.zeros(cp.rank, dtype=X.dtype)
    for m, U in enumerate(cp.factors):
        if m != mode:
            (other,) = [n for n in range(3) if n not in (mode, m)]
            weight += cp.shape[other] * U.square().sum(0)
    return Block(mode, cp.factors[mode], unfolded(X, mode) @ Z, Z.mT @ Z, weight)


def least_weighted_norm(X: Tensor, cp: CP, mode: int, bound: float) -> float:
    """``min ||A diag(w)||^2`` subject to ``||X_(mode) - A Z'||^2 <= bound``, by SLSQP on the entries of A."""
    block = block_of(X, cp, mode)
    Xn, Z = unfolded(X, mode).numpy(), partner_product(cp.factors, mode).numpy()
    w2, shape = block.weight.numpy(), tuple(block.factor.shape)

    def residual(a: np.ndarray) -> np.ndarray:
        return Xn - a.reshape(shape) @ Z.T

    start = np.linalg.lstsq(Z, Xn.T, rcond=None)[0].T
    found = minimize(
        lambda a: float((a.reshape(shape) ** 2 * w2).sum()),
        start.ravel(),
        jac=lambda a: (2 * a.reshape(shape) * w2).ravel(),
        constraints={
            "type": "ineq",
            "fun": lambda a: bound - float((residual(a) ** 2).sum()),
            "jac": lambda a: (2 * residual(a) @ Z).ravel(),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return float(found.fun)


def weighted_norm(A: Tensor, block: Block) -> float:
    """``||A diag(w)||^2``."""
    return float((A.square() * block.weight).sum())


def squared_residual(X: Tensor, cp: CP, mode: int, A: Tensor) -> float:
    """``||X_(mode) - A Z'||^2``."""
    return float((unfolded(X, mode) - A @ partner_product(cp.factors, mode).mT).square().sum())


def dense_layer(spec: ConvSpec, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """The single torch layer with that weight."""
    layer = plain_layer(spec, weight.device, weight.dtype)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(weight)
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
    return layer
