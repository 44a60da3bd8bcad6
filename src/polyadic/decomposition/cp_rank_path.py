"""Stable CP along a path of ranks, each warm-started from its neighbour: the whole curve error(R), sensitivity(R).

Growing, the terms of the smaller rank are kept and weak random ones added; deflating, the weakest terms are dropped.
Then the homotopy of :mod:`polyadic.decomposition.cp_ridge` goes on, not from its strongest penalty but from ``reheat``
times the penalty at which the neighbour ended: strong enough for old and new terms to be dealt out afresh, weak enough
to keep most of what is known. On kernels of ResNet-56 growing takes about two thirds of the sweeps of cold starts
and ends a little better; deflating ends a little worse (benchmarks/rank_path.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import Finished, initial_cp, solutions
from polyadic.decomposition.cp_ridge import EXACT, RidgeOptions, follow_path
from polyadic.decomposition.solution import Solution, check_batch
from polyadic.decomposition.stable_cp import exact_cp, full_rank
from polyadic.errors import DecompositionError

NEW_TERMS = 0.1  # intensity of an added term over the mean intensity of those there


@dataclass(frozen=True)
class RankPathOptions:
    """Which way the path goes and how much of the homotopy is repeated at each rank.

    Attributes:
        direction: "grow" (from the smallest rank up) or "deflate" (from the largest down).
        reheat: each rank begins at this many times the last penalty of the rank before it. 4 takes about half the
            sweeps of cold starts and loses about half a percent of error.
        ridge: of the homotopy.
    """

    direction: Literal["grow", "deflate"] = "grow"
    reheat: float = 16.0
    ridge: RidgeOptions = field(default_factory=RidgeOptions)

    def __post_init__(self) -> None:
        if self.direction not in ("grow", "deflate"):
            raise DecompositionError(f"a rank path goes by 'grow' or 'deflate'; got {self.direction!r}")
        if not self.reheat >= 1:
            raise DecompositionError(
                f"a rank path begins at the last penalty or above it: reheat >= 1; got {self.reheat}"
            )


@dataclass(frozen=True)
class RankPath:
    """Decompositions of one tensor by rising rank."""

    solutions: tuple[Solution[CPTensor], ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """R, rising."""
        return tuple(solution.factors.rank for solution in self.solutions)

    @property
    def errors(self) -> tuple[float, ...]:
        """Relative error at each rank."""
        return tuple(solution.relative_error for solution in self.solutions)

    @property
    def sensitivities(self) -> tuple[float, ...]:
        """Sensitivity (factors of ``K / ||K||``, balanced) at each rank."""
        return tuple(solution.stability.sensitivity for solution in self.solutions if solution.stability)

    def within(self, error: float) -> Solution[CPTensor] | None:
        """The smallest rank on the path with at most this relative error; None if there is none."""
        return next((solution for solution in self.solutions if solution.relative_error <= error), None)


def cp_rank_path(
    K: Tensor,
    ranks: Sequence[int],
    options: RankPathOptions | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Solution[CPTensor]], None] | None = None,
) -> RankPath:
    """Decompose ``K`` (any order >= 3) at every rank of ``ranks``, each from its neighbour's factors.

    Args:
        K: the tensor.
        ranks: in any order; those at which every tensor is exact (:func:`full_rank`) are answered in closed form.
        options: of the path.
        seed: of the starting point and of the added terms.
        progress: called with every solution when it is there.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, no rank or a rank below 1.
    """
    options = options or RankPathOptions()
    unit = UnitTensors.of(check_batch([K], "cp_rank_path"))
    if not ranks or min(ranks) < 1:
        raise DecompositionError(f"a rank path takes one or more ranks, each at least 1; got {list(ranks)}")
    found: dict[int, Solution[CPTensor]] = {}
    before: Finished | None = None
    for rank in sorted(set(ranks), reverse=options.direction == "deflate"):
        if rank >= full_rank(tuple(K.shape)):
            found[rank] = exact_cp(K, rank)
        else:
            before = _next(unit, before, rank, options, seed)
            found[rank] = solutions([K], unit, [before])[0]
        if progress:
            progress(found[rank])
    return RankPath(tuple(found[rank] for rank in sorted(found)))


def _next(unit: UnitTensors, before: Finished | None, rank: int, options: RankPathOptions, seed: int) -> Finished:
    """The homotopy at ``rank``, from the rank before if there is one."""
    if before is None:
        return follow_path(unit, initial_cp(unit, rank, options.ridge.init, [seed]), options.ridge)[0]
    cp = before.cp[None]
    start = _grown(unit, cp, rank, seed) if rank > cp.rank else _strongest(cp, rank)
    sensitivity = float(before.cp.sensitivity())
    ended = options.ridge.share * max(before.squared_errors[-1], EXACT) / max(sensitivity, EXACT)
    mu = min(max(options.reheat * ended, options.ridge.weakest), options.ridge.strongest)
    return follow_path(unit, start, options.ridge, mu=torch.full_like(unit.norms, mu))[0]


def _grown(unit: UnitTensors, cp: CPTensor, rank: int, seed: int) -> CPTensor:
    """Weak random terms added up to ``rank``."""
    new = initial_cp(unit, rank - cp.rank, "random", [seed + rank])
    ratio = cp.intensities().mean(-1) / new.intensities().mean(-1).clamp_min(1e-300)
    new = new.scaled(NEW_TERMS * ratio)
    return CPTensor(tuple(torch.cat(pair, dim=-1) for pair in zip(cp.factors, new.factors, strict=True)))


def _strongest(cp: CPTensor, rank: int) -> CPTensor:
    """The ``rank`` terms of largest intensity, in their order."""
    kept = cp.intensities()[0].argsort(descending=True, stable=True)[:rank].sort().values
    return CPTensor(tuple(U[..., kept] for U in cp.factors))
