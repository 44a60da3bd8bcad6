"""A rank by number, by ratio or by error bound: one rule for all formats."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.errors import LayerError
from polyadic.formats.format import Format
from polyadic.schema import ConvSpec, Rank, chain_params


def rank_for(
    fmt: Format,
    kernel: Tensor,
    spec: ConvSpec,
    *,
    rank: int | Sequence[int] | None = None,
    ratio: float | None = None,
    error: float | None = None,
    seed: int = 0,
) -> Rank:
    """The rank of ``kernel`` (T x S/groups x window) in a format.

    Args:
        fmt: the format.
        kernel: of the layer.
        spec: its geometry.
        rank: the rank or ranks. One number serves for several: each rank is that, or the most that it can use.
        ratio: at least so many times fewer numbers than in the kernel (the bias counts on neither side).
        error: bound on ``||K - K^|| / ||K||`` of the factors, from 0 to below 1. The candidate ranks are searched by
            interpolation and halving, so the error has to fall with the rank; where the spectra of the kernel leave a
            step undecided (:meth:`Format.error_bounds`), with a decomposition.
        seed: of the decompositions.

    Raises:
        LayerError: the format refuses the layer; not exactly one of the three; no rank saves that much, or none but a
            dense layer keeps the bound.
        DecompositionError: NaN or Inf weights.
    """
    fmt.check_served(spec)
    if sum(given is not None for given in (rank, ratio, error)) != 1:
        raise LayerError(f"a rank is asked for by number, ratio or error; got rank = {rank}, {ratio = }, {error = }")
    if rank is not None:
        return _by_number(fmt, spec, rank)
    candidates = fmt.candidate_ranks(kernel, spec)
    if ratio is not None:
        return _by_ratio(fmt, spec, candidates, ratio)
    return _by_error(fmt, kernel, spec, candidates, float(error or 0.0), seed)


def rank_without_kernel(
    fmt: Format, spec: ConvSpec, *, rank: int | Sequence[int] | None = None, ratio: float | None = None
) -> Rank:
    """The rank of a layer that is still to be trained, by number or ratio as in :func:`rank_for`.

    Where a ratio decides several ranks, each is the same share of the largest one.

    Raises:
        LayerError: the format refuses the layer; not exactly one of the two; no rank saves that much.
    """
    fmt.check_served(spec)
    if (rank is None) == (ratio is None):
        raise LayerError(f"the rank of an untrained layer is given by number or ratio; got {rank = }, {ratio = }")
    if rank is not None:
        return _by_number(fmt, spec, rank)
    largest = fmt.largest_rank(spec)
    most = max(largest)
    candidates = [tuple(max(1, step * r // most) for r in largest) for step in range(1, most + 1)]
    return _by_ratio(fmt, spec, candidates, float(ratio or 0.0))


def _by_number(fmt: Format, spec: ConvSpec, rank: int | Sequence[int]) -> Rank:
    if isinstance(rank, int):
        largest = fmt.largest_rank(spec)
        rank = tuple(min(rank, most) for most in largest) if len(largest) > 1 else (rank,)
    rank = tuple(rank)
    fmt.check(spec, rank)
    return rank


def _by_ratio(fmt: Format, spec: ConvSpec, candidates: list[Rank], ratio: float) -> Rank:
    if not ratio > 0:
        raise LayerError(f"a ratio of dense to factorised numbers is above 0; got {ratio}")
    bias = spec.out_channels if spec.bias else 0
    allowed = (spec.params - bias) / ratio + bias
    within = bisect_right(candidates, allowed, key=lambda rank: chain_params(fmt.stages(spec, rank)))
    if not within:
        least = chain_params(fmt.stages(spec, candidates[0])) - bias
        raise LayerError(
            f"{fmt.name} holds at least {least} numbers here, {(spec.params - bias) / least:.3g}x fewer than the "
            f"{spec.params - bias} of the layer; got ratio = {ratio:g}: ask for less"
        )
    return candidates[within - 1]


def _by_error(fmt: Format, kernel: Tensor, spec: ConvSpec, candidates: list[Rank], error: float, seed: int) -> Rank:
    if not 0 <= error < 1:
        raise LayerError(f"a bound on the relative error lies in 0 ... 1; got {error}")
    # exact at the last rank, up to the precision of the weights
    allowed = max(error, 1e-6, 8 * torch.finfo(kernel.dtype).eps)

    margin = max(1e-9, 4 * torch.finfo(kernel.dtype).eps)  # what storing the weights may add or take
    bounds = fmt.error_bounds(kernel, spec, candidates)
    low = next((at for at, (least, _) in enumerate(bounds) if least <= allowed + margin), len(bounds)) - 1
    high = next((at for at, (_, most) in enumerate(bounds) if most <= allowed - margin), len(bounds))
    search = ErrorSearch(max(low, -1), high, len(candidates), allowed)
    while (at := search.proposed()) is not None:
        search.learn(at, fmt.factorise(kernel, spec, candidates[at], seed).relative_error)
    if search.high == len(candidates):
        raise LayerError(f"{fmt.name} keeps no relative error of {error:g} here at any of its {len(candidates)} ranks")
    return candidates[search.high]


_FURTHEST = 3.0  # times the rank tried last
_EVENLY = 1.25  # times the mean steepness so far: an error that falls faster than that falls in a straight line


class ErrorSearch:
    """The first candidate that keeps a bound, found with few decompositions: a secant that is held by bisection.

    Errors of a CP fall about evenly with the rank at first, and by about the same factor from rank to rank later. So
    the step into the unknown follows a straight line of errors or of logarithms, whichever fits the ranks tried so far,
    rank 0 with nothing kept among them, and between two ranks that were tried a line of logarithms. No step goes far:
    the highest ranks can take longer than all others together.
    """

    def __init__(self, low: int, high: int, count: int, allowed: float) -> None:
        """``low`` is known not to keep ``allowed`` (-1: none), ``high`` to keep it (``count``: none)."""
        self.low, self.high, self.count, self.allowed = low, high, count, allowed
        self._errors = {-1: 1.0}
        self._slow = 0

    def learn(self, at: int, error: float) -> None:
        """The decomposition at candidate ``at`` has this error."""
        width = self.high - self.low
        self._errors[at] = error
        self.low, self.high = (self.low, at) if error <= self.allowed else (at, self.high)
        self._slow = self._slow + 1 if self.high - self.low > width / 2 else 0

    def proposed(self) -> int | None:
        """Which candidate to try next; None once the first that keeps the bound is known, or that there is none."""
        if self.high - self.low <= 1:
            return None
        below = [at for at in self._errors if at <= self.low]
        kept = self._errors.get(self.high)
        if len(self._errors) == 1:
            at = float(self.low + 1)
        elif kept is None:
            at = min(self._onwards(sorted(below)), _FURTHEST * (self.low + 1.0))
        elif self._slow > 2:
            at = (self.low + self.high) / 2
        else:
            at = self._crossing(max(below), self.high)
        return min(max(math.ceil(at), self.low + 1), self.high - 1)

    def _onwards(self, tried: list[int]) -> float:
        """Where the line through the last two candidates meets the bound: of logarithms where these fall evenly."""
        a, b = tried[-2:] if self._errors[tried[-1]] < self._errors[tried[-2]] else (-1, tried[-1])
        before, now = self._errors[a], self._errors[b]
        if before <= now:
            return math.inf
        if a >= 0:
            steepness = math.log(before / now) / (b - a)
            if steepness < _EVENLY * math.log(1.0 / before) / (a + 1):
                return b + math.log(now / self.allowed) / steepness
        return b + (now - self.allowed) * (b - a) / (before - now)

    def _crossing(self, a: int, b: int) -> float:
        """Where the line of logarithms between candidates ``a`` and ``b`` passes the bound."""
        before, after = (math.log(max(self._errors[at], self.allowed / 10) / self.allowed) for at in (a, b))
        return a + (b - a) * before / (before - after) if before > after else (a + b) / 2
