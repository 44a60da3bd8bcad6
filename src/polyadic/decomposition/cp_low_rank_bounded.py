r"""CP with low-rank factor matrices, ranks from an error bound (Phan et al., ICASSP 2021, second algorithm).

With the other factors fixed, a factor of rank r has the squared error ``eps_n(r) = eps_n + sum_{k > r} sigma_k^2``,
known for all r at once (:mod:`polyadic.decomposition.cp_low_rank`). If each factor in turn took the smallest rank that
keeps the bound, the first one would spend the whole of it. So the ranks of the three modes are lowered together: least

    sum_n min(I_n R, r_n (I_n + R))     subject to   sum_n (eps_n(r_n) - eps_n) <= share * (delta^2 - ||K - K^||^2)

by one multiplier (both sums are separate in n), where a rank that saves nothing is not taken. A few sweeps at these
ranks win error back, and the next round spends it, until nothing falls any more.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.decomposition.alternation import unit_tensor
from polyadic.decomposition.cp_low_rank import LowRankCP, LowRankOptions, LowRankSweeps
from polyadic.decomposition.solution import Solution, StopReason, check_rank, check_tensor
from polyadic.decomposition.stable_cp import stable_cp
from polyadic.errors import DecompositionError


def cp_low_rank_bounded(
    K: Tensor, rank: int, error: float, options: LowRankOptions | None = None, *, seed: int = 0
) -> Solution[LowRankCP]:
    """Fit ``K`` (I x J x L) by ``rank`` terms and find low ranks of the factor matrices within an error bound.

    The start is a stable CP; the correction of the thin factors at the end spends what the bound leaves over.

    Args:
        K: the tensor.
        rank: CP rank R.
        error: bound on ``||K - K^|| / ||K||``, above 0 and below 1.
        options: how long, and how stable.
        seed: of the start.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a rank below 1, a bound outside (0, 1), or one that a
            CP of this rank does not reach.
    """
    options = options or LowRankOptions()
    X, norm = unit_tensor(check_tensor(K, "cp_low_rank", order=3))
    check_rank(rank)
    if not 0.0 < error < 1.0:
        raise DecompositionError(f"a relative error bound lies in (0, 1); got {error}")
    start = stable_cp(X, rank, options.start, seed=seed)
    if start.relative_error > error:
        raise DecompositionError(
            f"an error bound is one that a CP of the rank reaches; got {error}, and rank {rank} reaches "
            f"{start.relative_error:.4f}: raise either"
        )
    sweeps = LowRankSweeps(X, start.factors, options, (None, None, None))
    share, ceiling, best = options.share, 1.0, sweeps.state()
    for _ in range(options.rounds):
        ranks = lower_ranks(sweeps, error**2, share)
        if ranks == sweeps.ranks:
            if share >= ceiling:
                break
            share = min(ceiling, 2.0 * share)
            continue
        sweeps.ranks = ranks
        sweeps.run(options.recovery)
        if sweeps.squared_error <= error**2:
            best = sweeps.state()
        else:  # the modes' errors did not quite add: back, and in smaller steps
            sweeps.restore(best)
            share = ceiling = 0.5 * share
    sweeps.restore(best)
    return sweeps.solution(K, norm, StopReason.CONVERGED, error)


def lower_ranks(sweeps: LowRankSweeps, bound: float, share: float) -> tuple[int | None, ...]:
    """The cheapest ranks, none above the present ones, that add at most ``share`` of what ``bound`` leaves over."""
    budget, R = share * (bound - sweeps.squared_error), sweeps.cp.rank
    curves = []
    for mode, held in enumerate(sweeps.ranks):
        errors = sweeps.update(mode, list(sweeps.cp.factors))[2][:held].cpu()
        size = int(sweeps.X.shape[mode])
        prices, added = (size + R) * torch.arange(1.0, len(errors) + 1).double(), errors - errors[-1]
        ranks: list[int | None] = [*range(1, len(errors) + 1)]
        if held is None:  # unfactorised: no error is added
            prices, added = (torch.cat([row, row.new_tensor([last])]) for row, last in ((prices, size * R), (added, 0)))
            ranks = [*ranks, None]
        curves.append(_Curve(prices, added, ranks))
    # one multiplier finds the corners of the lower hull only: a mode with a long step would keep the others from theirs
    subsets = itertools.product((False, True), repeat=len(curves))
    options = [
        _within(budget, [curve if free else curve.held() for curve, free in zip(curves, subset, strict=True)])
        for subset in subsets
    ]
    return min(options, key=lambda option: option[0])[1]


@dataclass(frozen=True)
class _Curve:
    """What each rank of one factor costs and how much error it adds; the present rank is the last."""

    prices: Tensor
    added: Tensor
    ranks: list[int | None]

    def held(self) -> _Curve:
        return _Curve(self.prices[-1:], self.added[-1:], self.ranks[-1:])


def _within(budget: float, curves: list[_Curve]) -> tuple[float, tuple[int | None, ...]]:
    """Price and ranks of least price for the smallest multiplier of the added error that keeps the budget."""
    low, high = -30.0, 100.0  # of the logarithm of the multiplier: from "any error" to "none"
    picked = [len(curve.ranks) - 1 for curve in curves]
    for _ in range(60):
        middle = 0.5 * (low + high)
        trial = [int((curve.prices + math.exp(middle) * curve.added).argmin()) for curve in curves]
        if sum(float(curve.added[at]) for at, curve in zip(trial, curves, strict=True)) <= budget:
            picked, high = trial, middle
        else:
            low = middle
    price = sum(float(curve.prices[at]) for at, curve in zip(picked, curves, strict=True))
    return price, tuple(curve.ranks[at] for at, curve in zip(picked, curves, strict=True))
