"""Tensors of known difficulty, by name, and random ones by seed. All float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polyadic.algebra import CPTensor

SHAPE = (4, 5, 6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    """Independent N(0, 1) entries that depend on the seed and the shape alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_cp(shape: tuple[int, ...], rank: int, seed: int = 0) -> CPTensor:
    """A CP with independent N(0, 1) entries in its factors."""
    return CPTensor(tuple(gaussian(size, rank, seed=seed + 101 * mode) for mode, size in enumerate(shape)))


def batch_of(*members: CPTensor) -> CPTensor:
    """Decompositions of one shape and rank as one batch."""
    return CPTensor(tuple(torch.stack(matrices) for matrices in zip(*(cp.factors for cp in members), strict=True)))


def unit(K: Tensor) -> Tensor:
    """``K / ||K||``, left alone if zero."""
    return K / K.norm() if bool(K.any()) else K


def exact_rank(rank: int = 2) -> Tensor:
    """A generic tensor of the given rank."""
    return gaussian_cp(SHAPE, rank, seed=5).full()


def rank_plus_noise() -> Tensor:
    """Rank 2 and 10 % of noise."""
    X, noise = exact_rank(), gaussian(*SHAPE, seed=6)
    return X + 0.1 * X.norm() / noise.norm() * noise


def collinear_swamp() -> Tensor:
    """Rank 3 whose columns meet under angles of about six degrees: plain ALS crawls."""
    base = [gaussian(size, 1, seed=7 + size) for size in SHAPE]
    return CPTensor(tuple(U + 0.1 * gaussian(U.shape[0], 3, seed=8) for U in base)).full()


def border_rank(noise: float = 0.0) -> Tensor:
    """``a o a o b + a o b o a + b o a o a``: rank 3, border rank 2, so rank-2 terms grow without end."""
    a, b = torch.eye(3, dtype=torch.float64)[:2]
    terms = [torch.einsum("i,j,k->ijk", *vectors) for vectors in ((a, a, b), (a, b, a), (b, a, a))]
    return sum(terms, start=noise * gaussian(3, 3, 3, seed=0))


def one_entry() -> Tensor:
    """``e_1 o e_1 o e_1``: all other columns die in the first sweep."""
    X = torch.zeros(SHAPE, dtype=torch.float64)
    X[0, 0, 0] = 1.0
    return X


CASES: dict[str, Callable[[], Tensor]] = {
    "full rank": lambda: gaussian(*SHAPE),
    "exact rank": exact_rank,
    "rank plus noise": rank_plus_noise,
    "collinear swamp": collinear_swamp,
    "border rank": border_rank,
    "zero": lambda: torch.zeros(SHAPE, dtype=torch.float64),
    "tiny": lambda: 1e-30 * gaussian(*SHAPE),
    "huge": lambda: 1e30 * gaussian(*SHAPE),
    "constant": lambda: torch.ones(SHAPE, dtype=torch.float64),
    "one entry": one_entry,
    "rank-deficient mode": lambda: torch.einsum("ijq,kq->ijk", gaussian(4, 5, 2), gaussian(6, 2, seed=1)),
    "1-wide first mode": lambda: gaussian(1, 5, 6),
    "1-wide second mode": lambda: gaussian(4, 1, 6),
    "1-wide third mode": lambda: gaussian(4, 5, 1),
    "one number": lambda: gaussian(1, 1, 1),
    "permuted memory": lambda: gaussian(6, 5, 4).permute(2, 1, 0),
}
