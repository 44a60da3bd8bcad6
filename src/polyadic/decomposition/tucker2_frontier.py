r"""All useful ranks of a Tucker-2 at once: the frontier of cost and error over (R1, R2).

Truncated HOSVD gives the error of all S x T pairs from one eigendecomposition per mode,

    ||K - K^||^2 = ||K||^2 - sum_{p <= R1, q <= R2} sum_d G_dpq^2,        G = K x_2 U' x_3 V',

which orders the pairs well and overstates their errors. A refined pair (orthogonal iteration at R1, R2) lowers more
than its own entry of that table: the eigenvalues of ``Q1(V)`` are the energies of *all* R1 beside this V, those of
``Q2(U)`` of *all* R2 beside this U. So a few pairs along the frontier of the truncations, each begun at the vectors of
the one before it, refine a whole cross of entries each, and the frontier is read off the lowered table.

Cost: two eigendecompositions and ``O(D^2 S T (R1 + R2))`` operations per refined pair and sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import mode_product
from polyadic.decomposition.solution import checked
from polyadic.decomposition.tucker2 import Tucker2Options, mode_gram, spectrum
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class FrontierPoint:
    """One pair of ranks of a frontier.

    Attributes:
        ranks: (R1, R2).
        cost: what the pair costs, in the units of the cost that was asked for.
        relative_error: ``||K - K^|| / ||K||`` of a Tucker-2 with these ranks, which exists: HOOI may find a better one.
    """

    ranks: tuple[int, int]
    cost: float
    relative_error: float


def tucker2_weights(shape: tuple[int, ...]) -> Callable[[int, int], float]:
    """The number of weights of a pair of ranks for a D^2 x S x T kernel: ``R1 S + R2 T + R1 R2 D^2``."""
    D2, S, T = shape
    return lambda R1, R2: R1 * S + R2 * T + R1 * R2 * D2


def tucker2_macs(shape: tuple[int, ...], inputs: int, outputs: int) -> Callable[[int, int], float]:
    """Multiply-accumulates of a pair of ranks for a layer with a D^2 x S x T kernel.

    The first stage runs at ``inputs`` positions of the input image, the two others at ``outputs`` positions of the
    output image: ``inputs R1 S + outputs (R1 R2 D^2 + R2 T)``.
    """
    D2, S, T = shape
    return lambda R1, R2: inputs * R1 * S + outputs * (R1 * R2 * D2 + R2 * T)


def tucker2_frontier(
    K: Tensor,
    cost: Callable[[int, int], float] | None = None,
    options: Tucker2Options | None = None,
    *,
    multiple: int = 1,
) -> list[FrontierPoint]:
    """Pairs (R1, R2), cheapest first, each dearer and more exact than the one before, by refined errors.

    Args:
        K: the kernel, D^2 x S x T.
        cost: what a pair (R1, R2) costs, not falling in either; the number of weights by default.
        options: how many pairs are refined, and how far.
        multiple: only ranks that are multiples of this, and the full ranks S and T.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a multiple below 1.
    """
    options = options or Tucker2Options()
    X = checked(K, "tucker2", order=3)
    total = float(X.square().sum())
    allowed = allowed_ranks(X, multiple)
    price = price_table(X, cost, allowed)
    U, V = (spectrum(mode_gram(X, mode))[1] for mode in (1, 2))
    X = mode_product(mode_product(X, U.mT, 1), V.mT, 2)  # in HOSVD coordinates a truncation is a slice
    kept = _truncated_energy(X)
    V = torch.eye(X.shape[2], dtype=X.dtype, device=X.device)
    for ranks in _spread(_frontier(price, kept, allowed), options.frontier_points):
        V = _refine(X, V, ranks, options.frontier_sweeps, kept)
    kept = kept.cummax(0).values.cummax(1).values  # larger ranks hold smaller ones
    return [
        FrontierPoint(ranks, paid, max(0.0, 1.0 - energy / total) ** 0.5 if total > 0 else 0.0)
        for ranks, paid, energy in _frontier(price, kept, allowed)
    ]


def tucker2_rank_frontier(K: Tensor, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Pairs (R1, R2), cheapest first, none both dearer and less exact than another, by truncated HOSVD of ``K``.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3.
    """
    X = checked(K, "tucker2", order=3)
    allowed = allowed_ranks(X, 1)
    return [ranks for ranks, _, _ in _frontier(price_table(X, cost, allowed), truncation_table(X), allowed)]


def truncation_table(X: Tensor) -> Tensor:
    """``||G||^2`` (S x T) of every truncation of the HOSVD of ``X`` (D^2 x S x T): entry (R1 - 1, R2 - 1)."""
    U, V = (spectrum(mode_gram(X, mode))[1] for mode in (1, 2))
    return _truncated_energy(mode_product(mode_product(X, U.mT, 1), V.mT, 2))


def allowed_ranks(X: Tensor, multiple: int) -> tuple[list[int], list[int]]:
    """The values that R1 and R2 may take: multiples, and the full rank.

    Raises:
        DecompositionError: a multiple below 1.
    """
    if multiple < 1:
        raise DecompositionError(f"ranks are rounded to a multiple of a whole number >= 1; got {multiple}")
    first, second = ([*range(multiple, int(size), multiple), int(size)] for size in X.shape[1:])
    return first, second


def price_table(
    X: Tensor, cost: Callable[[int, int], float] | None, allowed: tuple[list[int], list[int]]
) -> dict[tuple[int, int], float]:
    """What each allowed pair costs; weights by default."""
    cost = cost or tucker2_weights(tuple(X.shape))
    return {(R1, R2): cost(R1, R2) for R1 in allowed[0] for R2 in allowed[1]}


def _truncated_energy(G: Tensor) -> Tensor:
    return G.square().sum(0).cumsum(0).cumsum(1).cpu()


def _spread(frontier: list[tuple[tuple[int, int], float, float]], count: int) -> list[tuple[int, int]]:
    """About ``count`` pairs of the frontier, evenly in the logarithm of their truncated size R1 R2, in its order."""
    sizes = [math.log(R1 * R2) for (R1, R2), _, _ in frontier]
    step = (max(sizes) - min(sizes)) / count
    picked: list[tuple[int, int]] = []
    reached = -math.inf
    for (ranks, _, _), size in zip(frontier, sizes, strict=True):
        if size >= reached:
            picked.append(ranks)
            reached = size + step
    return picked


def _refine(X: Tensor, V: Tensor, ranks: tuple[int, int], sweeps: int, kept: Tensor) -> Tensor:
    """Orthogonal iteration at ``ranks`` from the leading columns of ``V`` (T x T); lowers the errors in ``kept``."""
    R1, R2 = ranks
    for _ in range(sweeps):
        values, vectors = spectrum(mode_gram(mode_product(X, V[:, :R2].mT, 2), 1))
        kept[:, R2 - 1] = torch.maximum(kept[:, R2 - 1], values.cumsum(0).cpu())
        values, V = spectrum(mode_gram(mode_product(X, vectors[:, :R1].mT, 1), 2))
        kept[R1 - 1] = torch.maximum(kept[R1 - 1], values.cumsum(0).cpu())
    return V


def _frontier(
    price: dict[tuple[int, int], float], kept: Tensor, allowed: tuple[list[int], list[int]]
) -> list[tuple[tuple[int, int], float, float]]:
    """(ranks, cost, energy), cheapest first, each with more energy than all before it."""
    energy = {(R1, R2): row[R2 - 1] for R1, row in enumerate(kept.tolist(), start=1) for R2 in allowed[1]}
    frontier, best = [], -1.0  # below 0: of a zero kernel the cheapest pair stays
    for pair in sorted(price, key=lambda pair: (price[pair], -energy[pair], pair)):
        if energy[pair] > best * (1 + 1e-9):
            best = energy[pair]
            frontier.append((pair, price[pair], best))
    return frontier
