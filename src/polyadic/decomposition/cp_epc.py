r"""Error-preserving correction of a CP decomposition (Phan et al., ECCV 2020, eq. 10-13; IEEE TSP 67(5), 2019).

Among all CP decompositions whose error stays below ``delta``, look for the one of least sensitivity, factor after
factor:

    min ||A diag(w)||^2   subject to   ||K_(1) - A Z'||^2 <= delta^2,        Z = C (kr) B, w_r^2 = L b_r^2 + J c_r^2.

The minimiser is a ridge regression whose ridge follows from the bound (the discrepancy principle): one R x R
eigendecomposition and a scalar equation (:mod:`polyadic.decomposition.bounded_factor`) replace the quadratic
programme over a sphere. After every sweep the columns are rescaled to their best norms
(:meth:`polyadic.algebra.CPTensor.rescaled`): the tensor stays, the sensitivity falls in closed form. With that
rescaling the paper's ``ss`` and the true sensitivity have the same iterates up to scale.

:func:`cp_epc_rounds` alternates the correction with its mirror image, least error at a bounded sensitivity
(:mod:`polyadic.decomposition.cp_bounded`): plain ALS between rounds would bring the degeneracy back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors, sweep
from polyadic.decomposition.batch import Batch, Finished, choose, solutions, start_at
from polyadic.decomposition.bounded_factor import Objective, least_sensitive
from polyadic.decomposition.cp_bounded import BoundedOptions, cp_bounded
from polyadic.decomposition.solution import Solution, StopReason, check_batch, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class EPCOptions:
    """How far and how long the correction runs.

    Attributes:
        error_slack: the error may grow to ``1 + error_slack`` times that of the given factors; or
        delta: the bound on ``||K - K^|| / ||K||`` itself, which may lie below the error of the given factors: least
            squares then goes there first, if it can.
        objective: what is made small.
        max_sweeps: most sweeps.
        tolerance: stop when the objective changes by less than this fraction ...
        patience: ... this many sweeps in a row.
    """

    error_slack: float = 0.0
    delta: float | None = None
    objective: Objective = Objective.SENSITIVITY
    max_sweeps: int = 500
    tolerance: float = 1e-6
    patience: int = 10

    def __post_init__(self) -> None:
        if not self.error_slack >= 0:
            raise DecompositionError(f"an error slack is a fraction >= 0; got {self.error_slack}")
        if self.delta is not None and not 0 <= self.delta:
            raise DecompositionError(f"an error bound delta is a fraction of ||K||, >= 0; got {self.delta}")


def cp_epc(K: Tensor, cp: CPTensor, options: EPCOptions | None = None) -> Solution[CPTensor]:
    """Lower the sensitivity of ``cp``, factors of ``K`` (any order >= 3), within an error bound (Phan et al. 2020).

    Returns:
        Factors whose error is at most ``1 + error_slack`` times the given one or at most ``delta`` (up to rounding),
        and which are no more sensitive than the given ones. Where ``delta`` was not reached, the factors of least error
        and ``StopReason.BOUND_UNMET``.

    Raises:
        DecompositionError: NaN or Inf, factors that do not fit ``K``.

    Example:
        >>> from polyadic.decomposition import cp_als
        >>> K = torch.randn(9, 8, 12, generator=torch.Generator().manual_seed(0))  # D^2 x S x T
        >>> plain = cp_als(K, 10)
        >>> corrected = cp_epc(K, plain.factors, EPCOptions(error_slack=0.01))
        >>> corrected.relative_error <= 1.01 * plain.relative_error * (1 + 1e-6)
        True
        >>> corrected.stability.sensitivity < 0.1 * plain.stability.sensitivity
        True
    """
    options = options or EPCOptions()
    X = check_batch([K], "cp_epc")
    unit = UnitTensors.of(X)
    start = start_at(unit, cp, K, "cp_epc")
    error = 0.0 if float(unit.norms) == 0 else relative_error(X[0], cp)
    bound = (1.0 + options.error_slack) * error if options.delta is None else options.delta
    runs = correct(unit, start, torch.full_like(unit.norms, bound**2), options)
    return solutions([K], unit, runs)[0]


def cp_epc_rounds(K: Tensor, cp: CPTensor, rounds: int = 3, options: EPCOptions | None = None) -> Solution[CPTensor]:
    """Correct ``cp``, then by turns fit at the reached sensitivity and correct at the reached error.

    Each round ends no worse than it began in both. The slack is given once, in the first round.

    Raises:
        DecompositionError: as :func:`cp_epc`, or no round.
    """
    options = options or EPCOptions()
    if rounds < 1:
        raise DecompositionError(f"a correction takes at least one round; got {rounds}")
    solution = cp_epc(K, cp, options)
    kept = replace(options, error_slack=0.0, delta=None)
    history = solution.history
    for _ in range(rounds - 1):
        fit = BoundedOptions(bound=None, objective=options.objective, max_sweeps=options.max_sweeps)
        fitted = cp_bounded(K, solution.factors, fit)
        solution = cp_epc(K, fitted.factors, kept)
        history += fitted.history + solution.history
    return replace(solution, sweeps=len(history), history=history)


def cp_epc_within(K: Tensor, cp: CPTensor, squared_bound: float, options: EPCOptions) -> CPTensor:
    """``cp``, factors of ``K`` (I x J x L, float64), corrected until ``||K - K^||^2`` is at most ``squared_bound``.

    Where it is above the bound already, or zero would do, the factors come back as they are; so they do under a bound
    below 1e-6 ``||K||^2``, which callers know as a difference of squared norms no better than to 1e-16 ``||K||^2``.
    """
    used, energy = float((K - cp.full()).square().sum()), float(K.square().sum())
    if not (used < squared_bound < energy and squared_bound > 1e-6 * energy):
        return cp
    delta = math.sqrt(squared_bound / energy) * (1.0 - 1e-9)
    return cp_epc(K, cp, replace(options, error_slack=0.0, delta=delta)).factors


def correct(unit: UnitTensors, cp: CPTensor, bound: Tensor, options: EPCOptions) -> list[Finished]:
    """Sweep each member until its objective stands still, keeping the best factors that obey ``bound`` (squared, b)."""
    batch, objective = Batch(unit), options.objective
    cp = objective.balanced(cp)
    best, lowest = cp, objective.of(cp)
    met = (unit.X - cp.full()).flatten(1).square().sum(1) <= bound * (1 + 1e-9) + 1e-13
    previous, quiet, sweeps = lowest, torch.zeros_like(lowest), 0
    while batch.members:
        cp, error = sweep(batch.unit, cp, partial(least_sensitive, bound=bound, objective=objective))
        cp, sweeps = objective.balanced(cp), sweeps + 1
        batch.record(error)
        value, obeys = objective.of(cp), error <= bound + 1e-13
        better = (obeys & (~met | (value < lowest))) | ~(obeys | met)  # below an unmet bound: the latest errs least
        best = choose(better, cp, best)
        lowest, met = torch.where(better, value, lowest), met | obeys
        quiet = torch.where((previous - value).abs() <= options.tolerance * previous, quiet + 1, 0.0)
        previous = value
        settled = quiet >= options.patience
        stops = [_reason(*pair) for pair in zip(met.tolist(), settled.tolist(), strict=True)]
        staying = batch.retire(settled | (sweeps >= options.max_sweeps), best, stops)
        if staying is not None:
            cp, best = cp[staying], best[staying]
            bound, lowest, met, previous, quiet = (v[staying] for v in (bound, lowest, met, previous, quiet))
    return batch.finished()


def _reason(met: bool, settled: bool) -> StopReason:
    if not met:
        return StopReason.BOUND_UNMET
    return StopReason.CONVERGED if settled else StopReason.MAX_SWEEPS
