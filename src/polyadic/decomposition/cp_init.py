"""Starting points for CP solvers, one per seed: a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, gram, unfold
from polyadic.decomposition.alternation import UnitTensors
from polyadic.errors import DecompositionError

Initialiser: TypeAlias = Callable[[Tensor, int, torch.Generator], list[Tensor]]


def random_init(X: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """Independent N(0, 1) entries."""
    return [torch.randn(size, rank, generator=generator, dtype=torch.float64).to(X.device) for size in X.shape]


def singular_init(X: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """Leading left singular vectors of each unfolding ('nvec'); columns beyond I_n, and so most of A, are random."""
    factors = []
    for mode, size in enumerate(X.shape):
        # eigenvectors of X_(n) X_(n)' (I_n x I_n): the wide unfolding itself is never decomposed
        vectors = torch.linalg.eigh(gram(unfold(X, mode).mT).double()).eigenvectors.flip(1)[:, :rank]
        extra = torch.randn(size, max(rank - size, 0), generator=generator, dtype=torch.float64).to(X.device)
        factors.append(torch.cat([vectors, extra / extra.norm(dim=0).clamp_min(1e-300)], dim=1))
    return factors


INITIALISERS: dict[str, Initialiser] = {"random": random_init, "singular": singular_init}


def initial_cp(unit: UnitTensors, rank: int, init: str, seeds: Sequence[int]) -> CPTensor:
    """The starting points named ``init`` for every tensor of the batch, of its norm and balanced.

    Raises:
        DecompositionError: a rank below 1, or an unknown name.
    """
    if rank < 1:
        raise DecompositionError(f"a CP rank is a positive whole number; got {rank}: ask for at least 1")
    if init not in INITIALISERS:
        raise DecompositionError(f"a CP starting point is one of {', '.join(INITIALISERS)}; got {init!r}")
    points = [
        INITIALISERS[init](X, rank, torch.Generator().manual_seed(seed)) for X, seed in zip(unit.X, seeds, strict=True)
    ]
    cp = CPTensor(tuple(torch.stack(matrices) for matrices in zip(*points, strict=True)))
    norm = cp.squared_norm().clamp_min(0).sqrt()
    cp = cp.scaled(torch.where(norm > 0, unit.squares.sqrt() / norm.clamp_min(1e-300), 0.0)).rescaled()
    return CPTensor(tuple(U.to(unit.X) for U in cp.factors))
