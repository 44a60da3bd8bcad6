r"""The cheapest TKD-CPD within an error bound: the bound divided between Tucker-2 and the CP of the core.

``delta^2 = delta_T^2 + ||G - G^||^2`` (Phan et al., ECCV 2020, section 2.4). First the smallest CP rank that keeps the
bound without any Tucker-2. It calibrates a forecast of all pairs (R1, R2)
(:class:`polyadic.decomposition.tkd_cpd.SplitForecast`); if a pair is foretold to cost less, the smallest CP rank of
its core is searched, below the rank at which it would cost as much. The cheaper of the two is returned.

The errors of CPs fall about exponentially with R, so a rank is searched by the secant of ``log error^2`` within a
bracket: four to seven stable CPs for each of at most two cores, which is nearly all the time.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Tucker2Tensor
from polyadic.decomposition.cp_epc import cp_epc_within
from polyadic.decomposition.solution import Solution, Stability, check_tensor, relative_error
from polyadic.decomposition.stable_cp import StableOptions, full_rank, stable_cp
from polyadic.decomposition.tkd_cpd import SplitForecast, TKDCost, TuckerCP, tkd_weights
from polyadic.decomposition.tucker2 import tucker2
from polyadic.errors import DecompositionError


def tkd_cpd_bounded(
    K: Tensor,
    error: float,
    cost: TKDCost | None = None,
    options: StableOptions | None = None,
    *,
    resolution: float = 0.02,
    seed: int = 0,
) -> Solution[TuckerCP]:
    """The cheapest TKD-CPD of ``K`` (D^2 x S x T) found with relative error at most ``error``.

    Args:
        K: the kernel.
        error: bound on ``||K - K^|| / ||K||``, from 0 to below 1.
        cost: what ranks (R1, R2, R) cost, not falling in any; by default the number of weights, each side's two 1 x 1
            stages merged where that holds fewer.
        options: of the stable CPs.
        resolution: the CP rank is found to this fraction of it, or to 1.
        seed: of the stable CPs.

    Returns:
        What the bound leaves over is spent on a lower sensitivity. Only an exact CP stands at ``error = 0``.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a bound outside [0, 1), a resolution outside (0, 1).
    """
    options = options or StableOptions()
    X = check_tensor(K, "tkd_cpd", order=3)
    if not 0.0 <= error < 1.0:
        raise DecompositionError(f"a relative error bound lies in [0, 1); got {error}: 1 would allow the zero kernel")
    if not 0.0 < resolution < 1.0:
        raise DecompositionError(f"a resolution of the rank is a fraction in (0, 1); got {resolution}")
    price = cost or tkd_weights(tuple(X.shape))
    whole = (int(X.shape[1]), int(X.shape[2]))
    forecast = SplitForecast(X)
    room = max(error**2, 1e-26)
    guess = int(forecast.rank_for(torch.tensor(room, dtype=torch.float64))[-1, -1])
    search = _RankSearch(X, room, options, resolution, seed)
    best = search.smallest(whole, 0, guess, None)
    forecast.calibrate(best.rank, best.error)
    pair = cheapest_pair(forecast, room, price, best.rank)
    paid = price(*whole, best.rank)
    # the largest CP rank, up to four times the best one, that costs less with this pair
    ceiling = bisect_left(range(1, 4 * best.rank + 1), True, key=lambda R: price(*pair, R) >= paid)
    if pair != whole and ceiling >= best.rank:
        # a TKD-CPD is a CP of the kernel too: its R is not below that of the CP
        best = search.smallest(pair, best.rank - 1, best.rank, ceiling) or best
    return _finished(K, X, best, room, options)


def cheapest_pair(forecast: SplitForecast, room: float, price: TKDCost, least: int) -> tuple[int, int]:
    """(R1, R2) of least forecast cost for the squared relative error ``room`` and a CP rank of at least ``least``.

    Among equals the pair that cuts off least, so a side that is merged stays whole.
    """
    lost = forecast.lost.clamp_max(1.0)
    ranks = forecast.rank_for((room - lost) / (1.0 - lost).clamp_min(1e-12)).clamp_min(least)
    S, T = lost.shape
    best = (price(S, T, least), 0.0, (S, T))
    for p, q in (lost < room).nonzero().tolist():
        R = int(ranks[p, q])
        best = min(best, (price(p + 1, q + 1, R), float(lost[p, q]), (p + 1, q + 1)))
    first, second = best[2]
    R = int(ranks[first - 1, second - 1])
    first = S if price(S, second, R) <= price(first, second, R) else first
    second = T if price(first, T, R) <= price(first, second, R) else second
    return first, second


@dataclass(frozen=True)
class _Found:
    outer: Tucker2Tensor
    core: Solution[CPTensor]
    rank: int
    error: float


class _RankSearch:
    """The smallest CP rank of a Tucker-2's core that keeps a bound on the squared relative error of the whole."""

    def __init__(self, X: Tensor, room: float, options: StableOptions, resolution: float, seed: int) -> None:
        self.X, self.room, self.options, self.resolution, self.seed = X, room, options, resolution, seed
        self.energy = float(X.square().sum())

    @overload
    def smallest(self, ranks: tuple[int, int], low: int, guess: int, ceiling: None) -> _Found: ...
    @overload
    def smallest(self, ranks: tuple[int, int], low: int, guess: int, ceiling: int) -> _Found | None: ...
    def smallest(self, ranks: tuple[int, int], low: int, guess: int, ceiling: int | None) -> _Found | None:
        """The smallest rank above ``low``; None if none up to ``ceiling`` keeps the bound (an exact CP always does)."""
        outer = tucker2(self.X, ranks).factors
        exact = full_rank(tuple(outer.G.shape))
        high = exact if ceiling is None else min(exact, ceiling)
        found, points = None, {}
        R = min(max(low + 1, guess), high)
        while low < high:
            core = stable_cp(outer.G, R, self.options, seed=self.seed)
            residual = self.X - TuckerCP(core.factors, outer.U, outer.V).full()
            squared = float(residual.square().sum()) / (self.energy or 1.0)
            points[R] = math.log(max(squared, 1e-30))
            if squared <= self.room:
                found, high = _Found(outer, core, R, math.sqrt(squared)), R - 1
            else:
                low = R
            if found and found.rank - low <= max(1, self.resolution * found.rank):
                break
            R = self._next(points, low, high, found)
        if found is None and ceiling is None:  # rounding: the exact CP misses the bound by less than float64 can tell
            found = _Found(outer, core, R, math.sqrt(squared))
        return found

    def _next(self, points: dict[int, float], low: int, high: int, found: _Found | None) -> int:
        """By the secant through the two ranks whose errors are nearest to the bound, inside (low, high]."""
        target = math.log(self.room)
        near = sorted(points, key=lambda R: abs(points[R] - target))[:2]
        step: float = max(near) * 0.3
        if len(near) == 2 and points[max(near)] < points[min(near)]:
            slope = (points[max(near)] - points[min(near)]) / (max(near) - min(near))
            step = abs((target - points[near[0]]) / slope) + 0.5 * self.resolution * near[0]
        R = near[0] + (-step if points[near[0]] <= target else step)
        if found and len(points) > 6:  # the secant stands on one side: halve
            R = 0.5 * (low + found.rank)
        return min(max(round(R), low + 1), high)


def _finished(K: Tensor, X: Tensor, best: _Found, room: float, options: StableOptions) -> Solution[TuckerCP]:
    """Spend what is left of the bound on stability, in the dtype of ``K``."""
    G = best.outer.G
    left = room * float(X.square().sum()) - (float(X.square().sum()) - float(G.square().sum()))
    core = cp_epc_within(G, best.core.factors, left, options.epc)
    result = TuckerCP(core, best.outer.U, best.outer.V).to(K)
    stability = Stability.of(result.core, float(X.norm()))
    return Solution(result, relative_error(K, result), best.core.stop, best.core.sweeps, best.core.history, stability)
