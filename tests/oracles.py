"""Definitions, written as slowly as the papers write them, to compare the fast ones with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from polyadic.algebra import CPTensor
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


def cp_full(cp: CPTensor) -> Tensor:
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


def simulated_sensitivity(cp: CPTensor, draws: int, sigma: float = 1e-6) -> float:
    """Mean of ``||X - X~||^2 / sigma^2`` over perturbations of every factor entry by N(0, sigma^2)."""
    generator = torch.Generator().manual_seed(0)
    X, total = cp.full(), 0.0
    for _ in range(draws):
        moved = [U + sigma * torch.randn(U.shape, generator=generator, dtype=U.dtype) for U in cp.factors]
        total += float((CPTensor(tuple(moved)).full() - X).square().sum()) / sigma**2
    return total / draws


def einsum_mttkrp(X: Tensor, factors: Sequence[Tensor], mode: int) -> Tensor:
    """``X_(mode)`` times the Khatri-Rao product, in one sum over all indices."""
    letters = "ijklmn"[: X.ndim]
    others = [m for m in range(X.ndim) if m != mode]
    operands = ",".join([letters, *(f"{letters[m]}r" for m in others)])
    return torch.einsum(f"{operands}->{letters[mode]}r", X, *(factors[m] for m in others))


def sensitivity(cp: CPTensor) -> float:
    """``sum_n I_n sum_r prod_(m != n) ||u_mr||^2``, term by term."""
    total = 0.0
    for n, r in itertools.product(range(len(cp.factors)), range(cp.rank)):
        others = [float(U[:, r] @ U[:, r]) for m, U in enumerate(cp.factors) if m != n]
        total += cp.shape[n] * float(np.prod(others))
    return total


def sensitivity_weight(cp: CPTensor, mode: int) -> Tensor:
    """``w^2`` (R): what one more unit in ``||column r||^2`` of that factor adds to the sensitivity."""
    weight = torch.zeros(cp.rank, dtype=torch.float64)
    for n, r in itertools.product(range(len(cp.factors)), range(cp.rank)):
        if n != mode:
            others = [float(U[:, r] @ U[:, r]) for m, U in enumerate(cp.factors) if m not in (n, mode)]
            weight[r] += cp.shape[n] * float(np.prod(others))
    return weight


def block_of(X: Tensor, cp: CPTensor, mode: int) -> Block:
    """The sub-problem of one factor (a batch of one) from the unfolding and the Khatri-Rao product themselves."""
    Z = partner_product(cp.factors, mode)
    others = [m for m in range(len(cp.factors)) if m != mode]
    grams = tuple((cp.factors[m].mT @ cp.factors[m])[None] for m in others)
    G = unfolded(X, mode) @ Z
    sizes = tuple(cp.shape[m] for m in others)
    return Block(mode, cp.factors[mode][None], G[None], (Z.mT @ Z)[None], grams, sizes)


def least_weighted_norm(X: Tensor, cp: CPTensor, mode: int, bound: float) -> float:
    """``min ||A diag(w)||^2`` subject to ``||X_(mode) - A Z'||^2 <= bound``, by SLSQP on the entries of A."""
    Xn, Z, w2, start = _sub_problem(X, cp, mode)

    def residual(a: np.ndarray) -> np.ndarray:
        return Xn - a.reshape(start.shape) @ Z.T

    found = minimize(
        lambda a: float((a.reshape(start.shape) ** 2 * w2).sum()),
        start.ravel(),
        jac=lambda a: (2 * a.reshape(start.shape) * w2).ravel(),
        constraints={
            "type": "ineq",
            "fun": lambda a: bound - float((residual(a) ** 2).sum()),
            "jac": lambda a: (2 * residual(a) @ Z).ravel(),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return float(found.fun)


def least_residual(X: Tensor, cp: CPTensor, mode: int, size: float) -> float:
    """``min ||X_(mode) - A Z'||^2`` subject to ``||A diag(w)||^2 <= size``, by SLSQP on the entries of A."""
    Xn, Z, w2, least = _sub_problem(X, cp, mode)
    start = least * min(1.0, 0.5 * np.sqrt(size / (least**2 * w2).sum()))

    def residual(a: np.ndarray) -> np.ndarray:
        return Xn - a.reshape(start.shape) @ Z.T

    found = minimize(
        lambda a: float((residual(a) ** 2).sum()),
        start.ravel(),
        jac=lambda a: (-2 * residual(a) @ Z).ravel(),
        constraints={
            "type": "ineq",
            "fun": lambda a: size - float((a.reshape(start.shape) ** 2 * w2).sum()),
            "jac": lambda a: (-2 * a.reshape(start.shape) * w2).ravel(),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return float(found.fun)


def _sub_problem(X: Tensor, cp: CPTensor, mode: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unfolding, Khatri-Rao product, weights and the least-squares factor."""
    Xn, Z = unfolded(X, mode).numpy(), partner_product(cp.factors, mode).numpy()
    return Xn, Z, sensitivity_weight(cp, mode).numpy(), np.linalg.lstsq(Z, Xn.T, rcond=None)[0].T


def weighted_norm(A: Tensor, weight: Tensor) -> float:
    """``||A diag(w)||^2``."""
    return float((A.square() * weight).sum())


def squared_residual(X: Tensor, cp: CPTensor, mode: int, A: Tensor) -> float:
    """``||X_(mode) - A Z'||^2``."""
    return float((unfolded(X, mode) - A @ partner_product(cp.factors, mode).mT).square().sum())


def as_torch_stores(spec: ConvSpec, kernel: Tensor) -> Tensor:
    """Channel by channel: a transposed layer stores S x T/groups x window."""
    if not spec.transposed:
        return kernel
    S, T = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    weight = kernel.new_zeros(spec.in_channels, T, *spec.kernel)
    for group, s, t in itertools.product(range(spec.groups), range(S), range(T)):
        weight[group * S + s, t] = kernel[group * T + t, s]
    return weight


def dense_layer(spec: ConvSpec, kernel: Tensor, bias: Tensor | None = None) -> nn.Module:
    """The single torch layer with that kernel (T x S/groups x window)."""
    layer = plain_layer(spec, kernel.device, kernel.dtype)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(as_torch_stores(spec, kernel))
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
    return layer
