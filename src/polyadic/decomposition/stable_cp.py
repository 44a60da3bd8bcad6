"""Stable CP decomposition: a penalised homotopy, a bounded fit, and error-preserving correction.

1. The homotopy (:mod:`polyadic.decomposition.cp_ridge`) finds factors of low error and low sensitivity together, from
   one or more starting points in a batch; the best trade of the two goes on.
2. At the sensitivity reached, the bounded fit (:mod:`polyadic.decomposition.cp_bounded`) lowers the error further.
3. Without bounds of the caller's, the result is held against a few sweeps of plain ALS from the first starting point.
   Where terms have died, so that a tenth of what ALS explains is missing, the bounded fit begins again at the factors
   of ALS and their sensitivity. An error that stays above is not called converged (:attr:`StopReason.STABLE`).
4. Where slack in error is allowed, :mod:`polyadic.decomposition.cp_epc` spends it on still less sensitivity.

Long plain ALS never follows: it would bring the degeneracy back within a few hundred sweeps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import Finished, initial_cp, solutions
from polyadic.decomposition.cp_als import ALSOptions, least_squares_sweeps
from polyadic.decomposition.cp_bounded import BoundedOptions, fit_bounded
from polyadic.decomposition.cp_epc import EPCOptions, correct
from polyadic.decomposition.cp_ridge import EXACT, RidgeOptions, follow_path
from polyadic.decomposition.solution import Solution, StopReason, check_batch, check_rank, check_tensor, solution_of
from polyadic.errors import DecompositionError

_AFFORDABLE = 2**24  # operations of one large product, over all starts

_ALS = ALSOptions(max_sweeps=15)  # what a result is held against
_MET = 1e-12  # squared relative error of a tensor that is met, where there is nothing to compare
_ALIVE = 0.9  # of what ALS explains of a tensor: below, terms have died
_ABOVE = 1.005  # times the error of ALS: above, a result is not called converged


@dataclass(frozen=True)
class StableOptions:
    """The three parts and the effort.

    Attributes:
        ridge: of the homotopy.
        fit: of the bounded fit; its bound is ``sensitivity``, else the sensitivity at the end of the path.
        epc: of the correction; it is left out where it has no slack to spend. Its ``delta`` is ``error`` where given.
        error: a bound on the relative error instead: the least sensitive factors within it that are found.
        sensitivity: or a bound on the sensitivity (of the factors of ``K / ||K||``): the factors of least error within.
        starts: how many starting points are followed, in one batch; the best trade is kept. None: as many as a small
            tensor can afford, up to 8, and one for a large one (:func:`affordable_starts`).
        seconds: further starting points are followed while less than this has passed (the answer then depends on the
            speed of the machine). None: only ``starts``.
    """

    ridge: RidgeOptions = field(default_factory=RidgeOptions)
    fit: BoundedOptions = field(default_factory=lambda: BoundedOptions(max_sweeps=300))
    epc: EPCOptions = field(default_factory=lambda: EPCOptions(max_sweeps=100, tolerance=1e-5))
    error: float | None = None
    sensitivity: float | None = None
    starts: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.starts is not None and self.starts < 1:
            raise DecompositionError(f"stable_cp takes at least one start; got {self.starts}")
        if self.error is not None and self.sensitivity is not None:
            raise DecompositionError("stable_cp takes a bound on the error or on the sensitivity; got both")
        if self.error is not None and not 0 <= self.error < 1:
            raise DecompositionError(f"a relative error bound lies in [0, 1); got {self.error}")
        if self.sensitivity is not None and not self.sensitivity > 0:
            raise DecompositionError(f"a bound on the sensitivity is above 0; got {self.sensitivity}")

    def path(self) -> RidgeOptions:
        """The homotopy, ending where the bound asks for it."""
        if self.error is not None:
            return replace(self.ridge, share=0.0, error=self.error)
        if self.sensitivity is not None:
            return replace(self.ridge, share=0.0, sensitivity=self.sensitivity)
        return self.ridge


def stable_cp(K: Tensor, rank: int, options: StableOptions | None = None, *, seed: int = 0) -> Solution[CPTensor]:
    """Fit ``K`` (any order >= 3) by ``rank`` rank-one terms of low error and low sensitivity.

    A rank that always suffices (:func:`full_rank`) is answered exactly and in closed form.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1.

    Example:
        >>> K = torch.randn(9, 8, 12, generator=torch.Generator().manual_seed(0))  # D^2 x S x T
        >>> solution = stable_cp(K, 10)
        >>> A, B, C = solution.factors.factors
        >>> tuple(A.shape), tuple(B.shape), tuple(C.shape)
        ((9, 10), (8, 10), (12, 10))
        >>> round(solution.relative_error, 2), solution.stop.name
        (0.64, 'CONVERGED')
    """
    return stable_cp_batch([K], rank, options, seed=seed)[0]


def stable_cp_batch(
    tensors: Sequence[Tensor], rank: int, options: StableOptions | None = None, *, seed: int = 0
) -> list[Solution[CPTensor]]:
    """:func:`stable_cp` of tensors of one shape, worked on together: the same answers, in less time.

    Raises:
        DecompositionError: as :func:`stable_cp`, or tensors of different shapes.
    """
    options = options or StableOptions()
    X = check_batch(tensors, "stable_cp")
    check_rank(rank)
    if rank >= full_rank(tuple(X.shape[1:])):
        return [exact_cp(K, rank) for K in tensors]
    unit = UnitTensors.of(X)
    runs = _best_paths(unit, rank, options, seed)

    def fit(cp: CPTensor) -> list[Finished]:
        reached = cp.sensitivity()
        ceiling = reached if options.sensitivity is None else torch.full_like(reached, options.sensitivity)
        return fit_bounded(unit, cp, ceiling, options.fit)

    runs = _continued(runs, fit)
    if options.error is None and options.sensitivity is None:
        runs = _held_against_als(unit, runs, initial_cp(unit, rank, options.ridge.init, [seed] * len(unit)), options)
    epc = options.epc if options.error is None else replace(options.epc, delta=options.error)
    if epc.error_slack > 0 or epc.delta is not None:
        slack = (1.0 + epc.error_slack) ** 2
        bounds = [slack * run.squared_errors[-1] if epc.delta is None else epc.delta**2 for run in runs]
        bound = torch.tensor(bounds, dtype=torch.float64).to(unit.norms)
        runs = _continued(runs, lambda cp: correct(unit, cp, bound, epc))
    return solutions(tensors, unit, runs)


def _best_paths(unit: UnitTensors, rank: int, options: StableOptions, seed: int) -> list[Finished]:
    """For every tensor the path with the best end among all starting points."""
    began, count = time.monotonic(), 0
    at_once = options.starts or affordable_starts(tuple(unit.X.shape[1:]), rank)
    ends: list[list[Finished]] = [[] for _ in range(len(unit))]
    while count < at_once or (options.seconds is not None and time.monotonic() - began < options.seconds):
        starts = at_once if count == 0 else 1
        many = unit[torch.arange(len(unit)).repeat_interleave(starts)] if starts > 1 else unit
        seeds = [seed + count + start for _ in range(len(unit)) for start in range(starts)]
        runs = follow_path(many, initial_cp(many, rank, options.ridge.init, seeds), options.path())
        for number, found in enumerate(ends):
            found += runs[number * starts : (number + 1) * starts]
            found[:] = [min(found, key=lambda run: _trade(run, options.ridge.share))]
        count += starts
    return [best for (best,) in ends]


def _held_against_als(
    unit: UnitTensors, runs: list[Finished], start: CPTensor, options: StableOptions
) -> list[Finished]:
    """``runs``, begun again where terms have died; those that still stand above plain ALS from ``start`` say so."""
    result = list(runs)
    inexact = torch.tensor([number for number, run in enumerate(runs) if run.squared_errors[-1] > _MET])
    if not len(inexact):
        return result
    for number, plain in zip(inexact.tolist(), least_squares_sweeps(unit[inexact], start[inexact], _ALS), strict=True):
        least = plain.squared_errors[-1]
        if 1.0 - runs[number].squared_errors[-1] < _ALIVE * (1.0 - least):
            cp = plain.cp[None].rescaled()
            (again,) = fit_bounded(unit[inexact.new_tensor([number])], cp, cp.sensitivity(), options.fit)
            result[number] = min(runs[number], again, key=lambda run: run.squared_errors[-1])
        run = result[number]
        if run.stop in (StopReason.CONVERGED, StopReason.DEAD) and run.squared_errors[-1] > _ABOVE**2 * least:
            result[number] = replace(run, stop=StopReason.STABLE)
    return result


def affordable_starts(shape: tuple[int, ...], rank: int) -> int:
    """How many starts are followed by default: 8 where one large product takes under 2^21 operations, 1 above 2^23.

    Small problems have many local minima, and there the batch costs little more than one start.
    """
    return min(max(_AFFORDABLE // (2 * math.prod(shape) * max(rank, 1)), 1), 8)


def _trade(run: Finished, share: float) -> float:
    """``log(squared error) + share * log(sensitivity)``: less is better.

    At the end of a path ``mu * sensitivity = share * squared error`` while ``squared error + mu * sensitivity`` is
    stationary, so there ``d log(squared error) = -share * d log(sensitivity)``.
    """
    squared_error, sensitivity = run.squared_errors[-1], float(run.cp.sensitivity())
    return math.log(max(squared_error, EXACT)) + share * math.log(max(sensitivity, EXACT))


def _continued(runs: list[Finished], solve: Callable[[CPTensor], list[Finished]]) -> list[Finished]:
    """Go on from the ends of ``runs``, members whose tensor is met already excepted, both histories joined."""
    cp = CPTensor(tuple(torch.stack(matrices) for matrices in zip(*(run.cp.factors for run in runs), strict=True)))
    joined = []
    for before, after in zip(runs, solve(cp), strict=True):
        if before.squared_errors[-1] <= EXACT:
            joined.append(before)
            continue
        stop = before.stop if after.stop is StopReason.CONVERGED else after.stop
        joined.append(Finished(after.cp, stop, before.squared_errors + after.squared_errors))
    return joined


def full_rank(shape: tuple[int, ...]) -> int:
    """A rank at which every tensor of this shape is exact: the product of all sizes but the largest."""
    return math.prod(shape) // max(shape)


def exact_cp(K: Tensor, rank: int) -> Solution[CPTensor]:
    """Write ``K`` exactly, as the sum over its fibres along the longest mode, ``e_i o e_j o K[i, j, :]``.

    Raises:
        DecompositionError: a rank below :func:`full_rank`.
    """
    X = check_tensor(K, "exact_cp")
    needed = full_rank(tuple(X.shape))
    if rank < needed:
        raise DecompositionError(f"an exact CP of a {tuple(X.shape)} tensor takes rank {needed}; got {rank}")
    long = max(range(X.ndim), key=lambda mode: X.shape[mode])
    short = [mode for mode in range(X.ndim) if mode != long]
    positions = torch.cartesian_prod(*(torch.arange(X.shape[mode]) for mode in short)).to(X.device)  # needed x (N - 1)
    factors = {
        mode: torch.nn.functional.one_hot(positions[:, n], X.shape[mode]).mT.to(X) for n, mode in enumerate(short)
    }
    factors[long] = X.movedim(long, 0).flatten(1)
    padded = CPTensor(tuple(factors[mode] for mode in range(X.ndim))).padded(rank)
    return solution_of(K, padded, StopReason.CLOSED_FORM)
