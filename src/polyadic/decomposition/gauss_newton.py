"""Damped Gauss-Newton steps of a CP fit: gradient and ``J'J`` products (Phan, Tichavsky and Cichocki 2013), damping.

A direction is one matrix per factor; here all are stacked as rows of one array (b x (I_1 + ... + I_N) x R). With
``Gamma_n`` the elementwise product of all Grams but number n and ``Gamma_nm`` that of all but two,

    gradient of ||K - K^||^2 / 2:   g_n = U_n Gamma_n - G_n                                       G_n the MTTKRP
    (J'J X)_n = X_n Gamma_n + U_n sum_(m != n) (X_m' U_m) * Gamma_nm

A product costs ``6 R^2 (I_1 + ... + I_N)`` operations for order 3, where J alone would hold
``I_1 ... I_N x R (I_1 + ... + I_N)`` numbers. So the normal equations are never formed, and a step is found by
conjugate gradients. Its damping follows Nielsen's rule (Madsen, Nielsen and Tingleff 2004).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, gram
from polyadic.decomposition.alternation import UnitTensors, mttkrps, sensitivity_weight


@dataclass(frozen=True)
class NormalEquations:
    """``J'J`` and the gradient at one point, for a batch of b tensors.

    Attributes:
        cp: the point.
        gradient: b x (I_1 + ... + I_N) x R.
        error: ``||X - X^||^2`` (b).
        blocks: ``Gamma_n`` (b x R x R) of every mode.
        pairs: ``Gamma_nm`` for n != m.
        weights: ``w^2`` (b x R) of the sensitivity, of every mode.
    """

    cp: CPTensor
    gradient: Tensor
    error: Tensor
    blocks: tuple[Tensor, ...]
    pairs: dict[tuple[int, int], Tensor]
    weights: tuple[Tensor, ...]

    @staticmethod
    def at(unit: UnitTensors, cp: CPTensor) -> NormalEquations:
        """Two products with the tensor, everything else of the size of a Gram."""
        grams = [gram(U) for U in cp.factors]
        modes = range(len(grams))
        others = [[k for k in modes if k != n] for n in modes]
        blocks = tuple(reduce(torch.mul, (grams[k] for k in rest)) for rest in others)
        pairs = {}
        for n in modes:
            for m in range(n):
                pairs[n, m] = pairs[m, n] = reduce(torch.mul, [grams[k] for k in modes if k not in (n, m)])
        G = mttkrps(unit, cp)
        gradient = [U @ Gamma - G_n for U, Gamma, G_n in zip(cp.factors, blocks, G, strict=True)]
        inner = (G[-1] * cp.factors[-1]).sum((-2, -1))
        error = unit.squares - 2.0 * inner + (blocks[-1] * grams[-1]).sum((-2, -1))
        norms = [matrix.diagonal(dim1=-2, dim2=-1) for matrix in grams]
        weights = tuple(
            sensitivity_weight(torch.stack([norms[k] for k in rest], -2), [cp.shape[k] for k in rest])
            for rest in others
        )
        return NormalEquations(cp, torch.cat(gradient, -2), error.clamp_min(0.0), blocks, pairs, weights)

    def apply(self, direction: Tensor) -> Tensor:
        """``J'J`` times a direction."""
        X = self.split(direction)
        inner = [V.mT @ U for V, U in zip(X, self.cp.factors, strict=True)]
        product = []
        for n, (U, V, Gamma) in enumerate(zip(self.cp.factors, X, self.blocks, strict=True)):
            mixed = reduce(torch.add, [inner[m] * self.pairs[n, m] for m in range(len(X)) if m != n])
            product.append(V @ Gamma + U @ mixed)
        return torch.cat(product, -2)

    def sensitivity_gradient(self) -> Tensor:
        """Half the gradient of the true sensitivity: ``U_n diag(w_n^2)``."""
        return self.weighted(torch.cat(self.cp.factors, -2))

    def weighted(self, direction: Tensor) -> Tensor:
        """``X_n diag(w_n^2)`` for every part of a direction."""
        parts = zip(self.split(direction), self.weights, strict=True)
        return torch.cat([V * weight[..., None, :] for V, weight in parts], -2)

    def block_solver(self, damping: Tensor, mu: Tensor) -> Callable[[Tensor], Tensor]:
        """``X_n (Gamma_n + mu diag(w_n^2) + damping I)^(-1)``: one simultaneous ridge-ALS step as a preconditioner."""
        factors = []
        for Gamma, weight in zip(self.blocks, self.weights, strict=True):
            diagonal = mu[:, None] * weight + damping[:, None].clamp_min(1e-14)
            factors.append(torch.linalg.cholesky_ex(Gamma + torch.diag_embed(diagonal)).L)

        def solve(direction: Tensor) -> Tensor:
            parts = zip(self.split(direction), factors, strict=True)
            return torch.cat([torch.cholesky_solve(V.mT, L).mT for V, L in parts], -2)

        return solve

    def moved(self, direction: Tensor) -> CPTensor:
        """The point plus a direction."""
        parts = zip(self.cp.factors, self.split(direction), strict=True)
        return CPTensor(tuple(U + V for U, V in parts))

    def split(self, direction: Tensor) -> tuple[Tensor, ...]:
        """The parts of a direction, one per factor."""
        return torch.split(direction, list(self.cp.shape), dim=-2)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of directions (b)."""
    return (x * y).sum((-2, -1))


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    steps: int,
    tolerance: float,
) -> Tensor:
    """An approximate solution of ``H x = right`` for a batch of positive definite H (Hestenes and Stiefel 1952).

    A member whose residual fell below ``tolerance`` times its right side moves no more.
    """
    x, residual = torch.zeros_like(right), right
    z = precondition(residual)
    direction, rho = z, dot(residual, z)
    goal = tolerance**2 * dot(right, right)
    for _ in range(steps):
        active = (dot(residual, residual) > goal) & (rho > 0)
        if not bool(active.any()):
            break
        H_d = apply(direction)
        curvature = dot(direction, H_d)
        step = torch.where(active & (curvature > 0), rho / curvature.clamp_min(1e-300), 0.0)[:, None, None]
        x, residual = x + step * direction, residual - step * H_d
        z = precondition(residual)
        rho, previous = dot(residual, z), rho
        direction = z + (rho / previous.clamp_min(1e-300))[:, None, None] * direction
    return x


@dataclass
class Damping:
    """One damping per member of a batch.

    Attributes:
        value: nu (b).
        growth: by what the next refusal multiplies it.
        largest: beyond this no step is possible any more.
    """

    value: Tensor
    growth: Tensor
    largest: Tensor

    @staticmethod
    def at(scale: Tensor, share: float = 1e-3) -> Damping:
        """Begin at a share of the largest curvature (b)."""
        return Damping(share * scale.clamp_min(1e-300), torch.full_like(scale, 2.0), 1e12 * scale.clamp_min(1e-300))

    @property
    def exhausted(self) -> Tensor:
        """Who refused so often that nothing moves any more (b)."""
        return self.value > self.largest

    def update(self, gain: Tensor, foretold: Tensor) -> Tensor:
        """Accept a step where it gained anything, and adapt the damping to how well the gain was foretold."""
        accepted = (gain > 0) & torch.isfinite(gain)
        rho = gain / foretold.clamp_min(1e-300)
        eased = self.value * (1.0 - (2.0 * rho - 1.0) ** 3).clamp(1.0 / 3.0, 2.0)
        self.value, self.growth = (
            torch.where(accepted, eased, self.value * self.growth),
            torch.where(accepted, 2.0, 2.0 * self.growth),
        )
        return accepted

    def keep(self, positions: Tensor) -> None:
        """Only those at ``positions`` go on."""
        self.value, self.growth, self.largest = (v[positions] for v in (self.value, self.growth, self.largest))
