"""One sweep over all factors of a CP decomposition of any order, shared by every alternating solver.

A sweep needs the MTTKRPs of all modes. Only two products touch the tensor X (I_1 x ... x I_N, modes in ascending
size): ``P = X x_N U_N'`` (I_1 x ... x I_(N-1) x R) at its beginning and ``G_N = X_(N) (U_1 kr ... kr U_(N-1))`` at its
end, ``2 I_1 ... I_N R`` operations each. The modes between follow from P by recursion: contract the last of them away,
serve those before it, then contract those, updated, and serve the last. For order 3, with A, B, C:

    P   = K x_3 C'                  G_A = sum_j P[:, j] * B[j]      then A is updated
                                    G_B = sum_i P[i] * A[i]         then B is updated
    G_C = K_(3) (A kr B)                                            then C is updated

The largest temporary is P. Products with the tensor are made in its own dtype, everything of the size of a Gram (R x R)
in float64. What distinguishes the solvers is only how a factor follows from ``G`` and from the Gram ``Gamma`` of the
other factors; they pass that rule as ``update``. All works on batches of tensors of equal shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, gram, khatri_rao
from polyadic.algebra.contraction import (
    Scratch,
    contract_all_but_last,
    contract_inner,
    contract_last,
    contract_leading,
)

Update: TypeAlias = "Callable[[Block], Tensor]"


@dataclass(frozen=True)
class Block:
    """Everything about the sub-problem of one factor, for a batch of b tensors.

    Attributes:
        mode: which factor.
        factor: the factor before its update (b x I x R).
        G: MTTKRP of this mode (b x I x R), float64.
        Gamma: elementwise product of the other Grams (b x R x R), float64.
        grams: the Grams of the other factors, one by one (b x R x R each), float64.
        sizes: sizes of the other modes.
    """

    mode: int
    factor: Tensor
    G: Tensor
    Gamma: Tensor
    grams: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    @property
    def norms(self) -> Tensor:
        """Squared column norms of the other factors (b x N-1 x R)."""
        return torch.stack([gram.diagonal(dim1=-2, dim2=-1) for gram in self.grams], dim=-2)

    @property
    def weight(self) -> Tensor:
        """``w^2`` (b x R): ``sum_r w_r^2 ||column r||^2`` is the part of the true sensitivity that this factor moves.

        For order 3 and A, ``w_r^2 = J ||c_r||^2 + L ||b_r||^2``.
        """
        return sensitivity_weight(self.norms, self.sizes)


def sensitivity_weight(norms: Tensor, sizes: Sequence[int]) -> Tensor:
    """``sum_m sizes_m prod_(k != m) norms_k`` (b x R), for ``norms`` b x M x R."""
    rows = norms.unbind(-2)
    if len(rows) == 2:
        return sizes[0] * rows[1] + sizes[1] * rows[0]
    products = [torch.stack(rows[:m] + rows[m + 1 :]).prod(0) for m in range(len(rows))]
    return torch.stack([size * product for size, product in zip(sizes, products, strict=True)]).sum(0)


def unit_tensor(K: Tensor) -> tuple[Tensor, float]:
    """``K`` scaled to Frobenius norm 1 (left alone if zero), and its norm."""
    norm = float(K.norm())
    return (K / norm if norm > 0 else K), norm


class KnownGrams:
    """The Grams of the factors that the last sweep returned, for a next one that starts from just these."""

    def __init__(self) -> None:
        self._cp: CPTensor | None = None
        self._grams: tuple[Tensor, ...] = ()

    def of(self, cp: CPTensor) -> list[Tensor]:
        """``U' U`` of every factor (b x R x R), float64."""
        return list(self._grams) if cp is self._cp else [gram(U.double()) for U in cp.factors]

    def keep(self, cp: CPTensor, grams: Sequence[Tensor]) -> None:
        """Those of ``cp`` from now on."""
        self._cp, self._grams = cp, tuple(grams)


@dataclass(frozen=True)
class UnitTensors:
    """A batch of tensors as the solvers see it: norm 1, modes in ascending size, contiguous.

    Attributes:
        X: b x I_1 x ... x I_N, of norm 1 (or 0 for a zero tensor).
        norms: the norms before (b), float64.
        squares: ``||X||^2`` (b), 1 or 0.
        order: mode n of X is mode ``order[n]`` of the tensors that were given.
        scratch: memory for the temporaries of a sweep.
        grams: those of the last sweep.
    """

    X: Tensor
    norms: Tensor
    squares: Tensor
    order: tuple[int, ...]
    scratch: Scratch = field(default_factory=Scratch)
    grams: KnownGrams = field(default_factory=KnownGrams)

    @staticmethod
    def of(tensors: Tensor, dtype: torch.dtype = torch.float64) -> UnitTensors:
        """From a batch b x I x J x ... in float64."""
        sizes = tensors.shape[1:]
        order = tuple(sorted(range(len(sizes)), key=lambda n: (sizes[n], n)))
        norms = tensors.flatten(1).norm(dim=1)
        scale = torch.where(norms > 0, norms, 1.0).reshape(-1, *[1] * len(sizes))
        X = (tensors / scale).permute(0, *(n + 1 for n in order)).to(dtype).contiguous()
        return UnitTensors(X, norms, (norms > 0).double(), order)

    def __getitem__(self, index: Tensor) -> UnitTensors:
        """Some of the batch, perhaps several times."""
        return UnitTensors(self.X[index], self.norms[index], self.squares[index], self.order, self.scratch)

    def __len__(self) -> int:
        """How many tensors there are."""
        return int(self.X.shape[0])

    def inside(self, cp: CPTensor) -> CPTensor:
        """A CP of the given tensors as one of X."""
        scale = torch.where(self.norms > 0, 1.0 / self.norms.clamp_min(1e-300), 0.0)
        return cp.permuted(self.order).scaled(scale).to(self.X)

    def outside(self, cp: CPTensor) -> CPTensor:
        """A CP of X as one of the given tensors, in float64."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return cp.permuted(back).double().scaled(self.norms)


def sweep(unit: UnitTensors, cp: CPTensor, update: Update) -> tuple[CPTensor, Tensor]:
    """Update every factor of ``cp`` once, each by ``update``; mode N last.

    Returns:
        The new factors and their squared errors ``||X - X^||^2`` (b, float64).
    """
    X, factors = unit.X, list(cp.factors)
    last = len(factors) - 1
    grams = unit.grams.of(cp)

    def serve(mode: int, G: Tensor) -> Tensor:
        others = (*grams[:mode], *grams[mode + 1 :])
        Gamma = reduce(torch.mul, others)
        sizes = (*X.shape[1 : 1 + mode], *X.shape[2 + mode :])
        factors[mode] = update(Block(mode, factors[mode], G.double(), Gamma, others, sizes)).to(X)
        grams[mode] = gram(factors[mode].double())
        return Gamma

    def descend(P: Tensor, modes: int) -> None:
        """Serve the first ``modes`` modes from P (b x I_1 x ... x I_modes x R)."""
        if modes == 1:
            serve(0, P)
            return
        rows = P.reshape(P.shape[0], -1, P.shape[-2], P.shape[-1])
        inner = contract_inner(rows, factors[modes - 1], unit.scratch)
        descend(inner.reshape(P.shape[0], *P.shape[1:modes], P.shape[-1]), modes - 1)
        serve(modes - 1, contract_leading(rows, reduce(khatri_rao, factors[: modes - 1]), unit.scratch))

    flat = X.reshape(X.shape[0], -1, X.shape[-2], X.shape[-1])  # b x (I_1 ... I_(N-2)) x I_(N-1) x I_N
    P = contract_last(X.reshape(X.shape[0], -1, X.shape[-1]), factors[last], unit.scratch)
    descend(P.reshape(*X.shape[:-1], P.shape[-1]), last)
    G = contract_all_but_last(flat, reduce(khatri_rao, factors[: last - 1]), factors[last - 1], unit.scratch)
    Gamma = serve(last, G)

    # ||X - X^||^2 = ||X||^2 - 2 <X, X^> + ||X^||^2, and <X, X^> = sum(G * U_N): X^ is never formed
    inner = (G.double() * factors[last]).sum((-2, -1))
    error = unit.squares - 2.0 * inner + (Gamma * grams[last]).sum((-2, -1))
    result = CPTensor(tuple(factors))
    unit.grams.keep(result, grams)
    return result, error.clamp_min(0.0)


def mttkrps(unit: UnitTensors, cp: CPTensor) -> list[Tensor]:
    """``G_n`` (b x I_n x R) of every mode at one point: a sweep that moves nothing."""
    found: dict[int, Tensor] = {}

    def keep(block: Block) -> Tensor:
        found[block.mode] = block.G
        return block.factor

    sweep(unit, cp, keep)
    return [found[mode] for mode in range(len(cp.factors))]


def solve_gram(Gamma: Tensor, G: Tensor) -> Tensor:
    """``G Gamma^(-1)`` for Grams ``Gamma`` (b x R x R): by Cholesky, or of minimum norm over unit columns if singular.

    A zero row of ``Gamma`` belongs to a dead term, whose column of G is zero: it stays zero.
    """
    L, info = torch.linalg.cholesky_ex(Gamma)
    diagonal = Gamma.diagonal(dim1=-2, dim2=-1)

    # L_rr^2 / Gamma_rr is the part of column r that the columns before it do not span: below 1e-13 it is rounding,
    # and Cholesky would answer with terms that are huge and cancel
    if not bool(info.any()) and bool((L.diagonal(dim1=-2, dim2=-1).square() > 1e-13 * diagonal).all()):
        solution: Tensor = torch.cholesky_solve(G.mT, L).mT
        return solution
    return _solve_singular(Gamma, G)


def _solve_singular(Gamma: Tensor, G: Tensor) -> Tensor:
    """The same where some are singular, or some terms are dead."""
    dead = Gamma.diagonal(dim1=-2, dim2=-1) <= 0
    Gamma = Gamma + torch.diag_embed(dead.to(Gamma))
    L, info = torch.linalg.cholesky_ex(Gamma)
    diagonal = Gamma.diagonal(dim1=-2, dim2=-1)
    sound = (info == 0) & (L.diagonal(dim1=-2, dim2=-1).square() > 1e-13 * diagonal).all(-1)
    result = torch.empty_like(G)
    if bool(sound.any()):
        result[sound] = torch.cholesky_solve(G[sound].mT, L[sound]).mT
    result[~sound] = _least_norm(Gamma[~sound], G[~sound])
    return result


def _least_norm(Gamma: Tensor, G: Tensor) -> Tensor:
    d = Gamma.diagonal(dim1=-2, dim2=-1).clamp_min(1e-200).sqrt()[..., None, :]
    e, Q = torch.linalg.eigh(Gamma / d / d.mT)
    e = e[..., None, :]
    inverse = torch.where(e > 1e-13 * e[..., -1:].clamp_min(0.0), 1.0 / e, 0.0)
    least: Tensor = (G / d @ Q * inverse) @ Q.mT / d
    return least
