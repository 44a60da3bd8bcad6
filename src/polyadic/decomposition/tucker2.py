r"""Tucker-2 of a kernel with given ranks or with an error bound (Phan et al., ECCV 2020, eq. 14-18).

``K ~ G x_2 U x_3 V`` with orthonormal ``U`` (S x R1), ``V`` (T x R2) and ``G = K x_2 U' x_3 V'`` (Lemma 2), so the
squared error is ``||K||^2 - ||G||^2``. With V fixed, the best U holds leading eigenvectors of
``Q1 = sum_d (K_d V)(K_d V)'`` (S x S).

Under a bound ``||K - K^||^2 <= delta^2`` the paper updates U and V in turn, each with the smallest rank that keeps the
bound. Begun at ``V = I`` the first mode then spends the whole error budget and the second rank stays nearly full. Here
R1 runs through a grid and then one by one around the cheapest: U = its R1 leading eigenvectors, then a few times
{smallest R2 that keeps the bound -> V; leading R1 -> U}; the cheapest pair wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import Tucker2, gram, mode_product, unfold
from polyadic.decomposition.solution import Solution, StopReason, checked, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class Tucker2Options:
    """How long U and V are alternated.

    Attributes:
        max_sweeps: most updates of the pair (U, V) at given ranks.
        tolerance: stop when ``||G||^2`` grows by less than this fraction.
        bound_sweeps: updates of the pair for every R1 under an error bound.
        grid: R1 is first tried at about this many values, then one by one around the cheapest.
    """

    max_sweeps: int = 50
    tolerance: float = 1e-8
    bound_sweeps: int = 4
    grid: int = 64

    def __post_init__(self) -> None:
        """Refuse a search that looks nowhere."""
        if self.grid < 1:
            raise DecompositionError(f"R1 is tried at one value at least; got grid = {self.grid}")


def tucker2(K: Tensor, ranks: tuple[int, int], options: Tucker2Options | None = None) -> Solution[Tucker2]:
    """``K`` (D^2 x S x T) by a core D^2 x R1 x R2, ``ranks = (R1, R2)``, from HOSVD by orthogonal iteration (HOOI).

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, ranks outside 1 ... S and 1 ... T.
    """
    options = options or Tucker2Options()
    X = checked(K, "tucker2", order=3)
    _check_ranks(ranks, X)
    U, V = _leading(_gram_of(X, 1), ranks[0]), _leading(_gram_of(X, 2), ranks[1])
    energy, stop, sweeps = -1.0, StopReason.MAX_SWEEPS, 0
    while sweeps < options.max_sweeps:
        sweeps += 1
        U = _leading(_gram_of(mode_product(X, V.mT, 2), 1), ranks[0])
        values, vectors = _spectrum(_gram_of(mode_product(X, U.mT, 1), 2))
        V = vectors[:, : ranks[1]]
        previous, energy = energy, float(values[: ranks[1]].sum())  # = ||G||^2
        if energy - previous <= options.tolerance * energy:
            stop = StopReason.CONVERGED
            break
    return _solution(K, X, U, V, stop, sweeps)


def tucker2_bounded(
    K: Tensor,
    error: float,
    cost: Callable[[int, int], float] | None = None,
    options: Tucker2Options | None = None,
) -> Solution[Tucker2]:
    """The cheapest Tucker-2 of ``K`` (D^2 x S x T) with relative error at most ``error``.

    Args:
        K: the kernel.
        error: bound on ``||K - K^|| / ||K||``, from 0 to below 1.
        cost: what a pair (R1, R2) costs; the number of weights ``R1 S + R2 T + R1 R2 D^2`` by default.
        options: how thoroughly to search.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a bound outside [0, 1).
    """
    options = options or Tucker2Options()
    X = checked(K, "tucker2", order=3)
    if not 0.0 <= error < 1.0:
        raise DecompositionError(f"a relative error bound lies in [0, 1); got {error}: 1 would allow the zero kernel")
    D2, S, T = X.shape
    price = cost or (lambda R1, R2: R1 * S + R2 * T + R1 * R2 * D2)
    # rounding of the eigenvalues must not push the ranks up when the bound is 0
    needed = (1.0 - max(error**2, 1e-13)) * float(X.square().sum())
    values, vectors = _spectrum(_gram_of(X, 1))
    smallest = _count(values, needed)
    tried: dict[int, tuple[Tensor, Tensor]] = {}

    def best_of(candidates: range) -> int:
        for R1 in candidates:
            if R1 not in tried:
                tried[R1] = _pair_within(X, vectors[:, :R1], needed, options.bound_sweeps)
        return min(tried, key=lambda R1: price(tried[R1][0].shape[1], tried[R1][1].shape[1]))

    step = max(1, (S - smallest + 1) // options.grid)
    best = best_of(range(smallest, S + 1, step))
    best = best_of(range(max(smallest, best - step), min(S, best + step) + 1))
    U, V = tried[best]
    return _solution(K, X, U, V, StopReason.CONVERGED, options.bound_sweeps)


def tucker2_rank_frontier(K: Tensor, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Pairs (R1, R2), cheapest first, none both dearer and less exact than another, by truncated HOSVD of ``K``.

    One eigendecomposition per mode gives the error of all S x T truncations at once:
    ``||K - K^||^2 = ||K||^2 - sum_{p <= R1, q <= R2} sum_d G_dpq^2``.
    """
    X = checked(K, "tucker2", order=3)
    U, V = _spectrum(_gram_of(X, 1))[1], _spectrum(_gram_of(X, 2))[1]
    G = mode_product(mode_product(X, U.mT, 1), V.mT, 2)
    kept = G.square().sum(0).cumsum(0).cumsum(1).cpu()  # S x T
    S, T = kept.shape
    pairs = sorted((cost(p + 1, q + 1), p, q) for p in range(S) for q in range(T))
    frontier, best = [], -1.0  # below 0: of a zero kernel the cheapest pair stays
    for _, p, q in pairs:
        if float(kept[p, q]) > best * (1 + 1e-9):
            best = float(kept[p, q])
            frontier.append((p + 1, q + 1))
    return frontier


def _pair_within(X: Tensor, U: Tensor, needed: float, sweeps: int) -> tuple[Tensor, Tensor]:
    """From U (S x R1): V of the smallest rank that keeps ``needed`` energy, both refined with R1 fixed."""
    R1 = U.shape[1]
    best: tuple[Tensor, Tensor] | None = None
    for _ in range(sweeps):
        values, vectors = _spectrum(_gram_of(mode_product(X, U.mT, 1), 2))
        R2 = _count(values, needed)
        V = vectors[:, :R2]
        if best is not None and R2 >= best[1].shape[1]:
            break
        best = (U, V)
        U = _leading(_gram_of(mode_product(X, V.mT, 2), 1), R1)
    if best is None:
        raise DecompositionError(f"an error bound takes at least one sweep; got {sweeps}")
    return best


def _gram_of(X: Tensor, mode: int) -> Tensor:
    """``X_(mode) X_(mode)'``, square in the mode's own size: the wide unfolding is never decomposed."""
    return gram(unfold(X, mode).mT)


def _spectrum(Q: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (largest first, not below 0) and eigenvectors of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(Q)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


def _leading(Q: Tensor, count: int) -> Tensor:
    return _spectrum(Q)[1][:, :count]


def _count(values: Tensor, needed: float) -> int:
    """How many leading eigenvalues it takes to sum to ``needed``."""
    return min(int((values.cumsum(0) < needed).sum()) + 1, values.numel())


def _check_ranks(ranks: tuple[int, int], X: Tensor) -> None:
    S, T = int(X.shape[1]), int(X.shape[2])
    if not (1 <= ranks[0] <= S and 1 <= ranks[1] <= T):
        raise DecompositionError(
            f"tucker2 ranks (R1, R2) lie in 1 ... {S} and 1 ... {T} for a kernel {X.shape[0]} x {S} x {T}; got {ranks}"
        )


def _solution(K: Tensor, X: Tensor, U: Tensor, V: Tensor, stop: StopReason, sweeps: int) -> Solution[Tucker2]:
    G = mode_product(mode_product(X, U.mT, 1), V.mT, 2)
    result = Tucker2(G, U, V).to(K)
    return Solution(result, relative_error(K, result), stop, sweeps)
