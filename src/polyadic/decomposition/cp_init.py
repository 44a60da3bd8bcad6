"""Starting points for CP solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CP, gram, unfold
from polyadic.errors import DecompositionError

Initialiser: TypeAlias = Callable[[Tensor, int, torch.Generator], CP]


def random_init(K: Tensor, rank: int, generator: torch.Generator) -> CP:
    """Independent N(0, 1) entries, scaled so that ``||K^|| = ||K||`` and all modes carry equal norms."""
    factors = [torch.randn(size, rank, generator=generator, dtype=torch.float64).to(K.device) for size in K.shape]
    return _matched(K, CP(tuple(factors)))


def singular_init(K: Tensor, rank: int, generator: torch.Generator) -> CP:
    """Leading left singular vectors of each unfolding ('nvec'); columns beyond I_n, and so most of A, are random."""
    factors = []
    for mode, size in enumerate(K.shape):
        # eigenvectors of X_(n) X_(n)' (I_n x I_n): the wide unfolding itself is never decomposed
        vectors = torch.linalg.eigh(gram(unfold(K, mode).mT)).eigenvectors.flip(1)[:, :rank]
        extra = torch.randn(size, max(rank - size, 0), generator=generator, dtype=torch.float64).to(K.device)
        factors.append(torch.cat([vectors, extra / extra.norm(dim=0).clamp_min(1e-300)], dim=1))
    return _matched(K, CP(tuple(factors)))


INITIALISERS: dict[str, Initialiser] = {"random": random_init, "singular": singular_init}


def initial_cp(K: Tensor, rank: int, init: str, seed: int) -> CP:
    """The starting point named ``init`` for a float64 tensor ``K``.

    Raises:
        DecompositionError: a rank below 1, or an unknown name.
    """
    if rank < 1:
        raise DecompositionError(f"a CP rank is a positive whole number; got {rank}: ask for at least 1")
    if init not in INITIALISERS:
        raise DecompositionError(f"a CP starting point is one of {', '.join(INITIALISERS)}; got {init!r}")
    return INITIALISERS[init](K, rank, torch.Generator().manual_seed(seed))


def _matched(K: Tensor, cp: CP) -> CP:
    norm = float(cp.squared_norm().clamp_min(0).sqrt())
    return cp.scaled(float(K.norm()) / norm).rescaled() if norm > 0 else cp
