r"""The ranks of a Tucker-2: the frontier of cost and error over all (R1, R2), and the cheapest within an error bound.

**The frontier.** Truncated HOSVD gives the error of all S x T pairs from one eigendecomposition per mode,

    ||K - K^||^2 = ||K||^2 - sum_{p <= R1, q <= R2} sum_d G_dpq^2,        G = K x_2 U' x_3 V',

which orders the pairs well and overstates their errors. A refined pair (orthogonal iteration at R1, R2) lowers more
than its own entry of that table: the eigenvalues of ``Q1(V)`` are the energies of *all* R1 beside this V, those of
``Q2(U)`` of *all* R2 beside this U. So a few pairs along the frontier of the truncations, each begun at the vectors of
the one before it, refine a whole cross of entries each, and the frontier is read off the lowered table.

Cost: two eigendecompositions and ``O(D^2 S T (R1 + R2))`` operations per refined pair and sweep.

**Within a bound** (Phan et al., ECCV 2020, eq. 14-18). Under ``||K - K^||^2 <= delta^2`` the paper updates U and V in
turn, each with the smallest rank that keeps the bound. Begun at ``V = I`` the first mode then spends the whole error
budget and the second rank stays nearly full. Here R1 is searched: the truncations of one HOSVD say which values are
promising; at each, U = the R1 leading eigenvectors, then a few times {smallest R2 that keeps the bound -> V; leading R1
-> U}, as in rank-adaptive HOOI (Xiao and Yang, 2021); then the neighbours of the cheapest, by ever smaller steps. The
sequential rule's own two answers are tried too, so the result never costs more than they do.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import Tucker2Tensor, mode_product
from polyadic.decomposition.solution import Solution, StopReason, check_tensor
from polyadic.decomposition.tucker2 import Tucker2Options, from_bases, mode_gram, spectrum
from polyadic.errors import DecompositionError

PROMISING = 1.25  # a rank whose truncation costs this many times the cheapest truncation is not looked at
BOUND_SWEEPS = 4  # updates of the pair (U, V) for every R1 under an error bound
FRONTIER_SWEEPS = 2  # updates of the pair for every refined point of a frontier


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
    X = check_tensor(K, "tucker2", order=3)
    total = float(X.square().sum())
    allowed = allowed_ranks(X, multiple)
    price = price_table(X, cost, allowed)
    U, V = (spectrum(mode_gram(X, mode))[1] for mode in (1, 2))
    X = mode_product(mode_product(X, U.mT, 1), V.mT, 2)  # in HOSVD coordinates a truncation is a slice
    kept = _truncated_energy(X)
    V = torch.eye(X.shape[2], dtype=X.dtype, device=X.device)
    for ranks in _spread(_frontier(price, kept, allowed), options.frontier_points):
        V = _refine(X, V, ranks, kept)
    kept = kept.cummax(0).values.cummax(1).values  # larger ranks hold smaller ones
    return [
        FrontierPoint(ranks, paid, max(0.0, 1.0 - energy / total) ** 0.5 if total > 0 else 0.0)
        for ranks, paid, energy in _frontier(price, kept, allowed)
    ]


def tucker2_rank_frontier(K: Tensor, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Pairs (R1, R2), cheapest first, none both dearer and less exact than another, by truncated HOSVD.

    Args:
        K: the kernel, D^2 x S x T.
        cost: what a pair (R1, R2) costs, not falling in either.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3.
    """
    X = check_tensor(K, "tucker2", order=3)
    allowed = allowed_ranks(X, 1)
    return [ranks for ranks, _, _ in _frontier(price_table(X, cost, allowed), truncation_table(X), allowed)]


def tucker2_bounded(
    K: Tensor,
    error: float,
    cost: Callable[[int, int], float] | None = None,
    options: Tucker2Options | None = None,
    *,
    multiple: int = 1,
) -> Solution[Tucker2Tensor]:
    """The cheapest Tucker-2 of ``K`` (D^2 x S x T) with relative error at most ``error``.

    Args:
        K: the kernel.
        error: bound on ``||K - K^|| / ||K||``, from 0 to below 1.
        cost: what a pair (R1, R2) costs, not falling in either; the number of weights by default
            (:func:`tucker2_macs` gives that of a layer's multiply-accumulates).
        options: how thoroughly to search.
        multiple: only ranks that are multiples of this, and the full ranks S and T, which hardware may like better.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a bound outside [0, 1), a multiple below 1.
    """
    options = options or Tucker2Options()
    X = check_tensor(K, "tucker2", order=3)
    if not 0.0 <= error < 1.0:
        raise DecompositionError(f"a relative error bound lies in [0, 1); got {error}: 1 would allow the zero kernel")
    price = cost or tucker2_weights(tuple(X.shape))
    # rounding of the eigenvalues must not push the ranks up when the bound is 0
    search = _Search(X, (1.0 - max(error**2, 1e-13)) * float(X.square().sum()), price, multiple)
    search.sequential()
    search.around_the_cheapest(options.grid)
    U, V = search.best
    return from_bases(K, X, U, V, StopReason.CONVERGED, BOUND_SWEEPS)


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


def _refine(X: Tensor, V: Tensor, ranks: tuple[int, int], kept: Tensor) -> Tensor:
    """Orthogonal iteration at ``ranks`` from the leading columns of ``V`` (T x T); lowers the errors in ``kept``."""
    R1, R2 = ranks
    for _ in range(FRONTIER_SWEEPS):
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


class _Search:
    """What has been tried under one bound, and the cheapest pair of bases (U, V) so far."""

    def __init__(self, X: Tensor, needed: float, price: Callable[[int, int], float], multiple: int) -> None:
        self.X, self.needed, self.price = X, needed, price
        self.allowed = allowed_ranks(X, multiple)
        self.spectra = [spectrum(mode_gram(X, mode)) for mode in (1, 2)]
        self.tried: set[int] = set()
        self.best = (self.spectra[0][1], self.spectra[1][1])  # full ranks: exact
        self.least = price(int(X.shape[1]), int(X.shape[2]))

    def sequential(self) -> None:
        """The paper's rule from U and from V: in turn, each with the smallest rank that keeps the bound."""
        for first in (1, 2):
            bases = [vectors for _, vectors in self.spectra]
            for step in range(2 * BOUND_SWEEPS):
                mode = first if step % 2 == 0 else 3 - first
                bases[mode - 1] = self._smallest(mode, bases[2 - mode])
                if step:
                    self._offer(bases[0], bases[1])

    def around_the_cheapest(self, grid: int) -> None:
        """Try about ``grid`` of the promising R1, then the neighbours of the cheapest by ever smaller steps."""
        promising = self._promising()
        step = max(1, len(promising) // grid)
        for at in range(0, len(promising), step):
            self._try(promising[at])
        while promising and step >= 1:
            at = min(bisect_left(promising, int(self.best[0].shape[1])), len(promising) - 1)
            before = len(self.tried)
            for near in (at - step, at + step):
                if 0 <= near < len(promising):
                    self._try(promising[near])
            if len(self.tried) == before:
                step = step // 2

    def _promising(self) -> list[int]:
        """Values of R1 whose truncated HOSVD keeps the bound at little more than the least cost."""
        (_, U), (_, V) = self.spectra
        G = mode_product(mode_product(self.X, U.mT, 1), V.mT, 2)
        kept = G.square().sum(0).cumsum(0).cumsum(1).cpu()
        second = torch.tensor(self.allowed[1]) - 1
        prices = {}
        for R1 in self.allowed[0]:
            at = int((kept[R1 - 1, second] < self.needed).sum())
            if at < len(second):
                prices[R1] = self.price(R1, self.allowed[1][at])
        ceiling = PROMISING * min(prices.values(), default=0.0)
        return [R1 for R1, paid in prices.items() if paid <= ceiling]

    def _try(self, R1: int) -> None:
        """From the R1 leading vectors of HOSVD: V of the smallest rank that keeps the bound, refined with R1 fixed."""
        if R1 in self.tried:
            return
        self.tried.add(R1)
        U, previous = self.spectra[0][1][:, :R1], int(self.X.shape[2]) + 1
        for _ in range(BOUND_SWEEPS):
            V = self._smallest(2, U)
            if V.shape[1] >= previous:
                return
            previous = int(V.shape[1])
            self._offer(U, V)
            U = spectrum(mode_gram(mode_product(self.X, V.mT, 2), 1))[1][:, :R1]

    def _smallest(self, mode: int, other: Tensor) -> Tensor:
        """The basis of ``mode`` of the smallest allowed rank that keeps the bound beside the ``other`` basis."""
        values, vectors = spectrum(mode_gram(mode_product(self.X, other.mT, 3 - mode), mode))
        count = int((values.cumsum(0) < self.needed).sum()) + 1
        allowed = self.allowed[mode - 1]
        return vectors[:, : allowed[min(bisect_left(allowed, count), len(allowed) - 1)]]

    def _offer(self, U: Tensor, V: Tensor) -> None:
        paid = self.price(int(U.shape[1]), int(V.shape[1]))
        if paid < self.least:
            self.best, self.least = (U, V), paid
