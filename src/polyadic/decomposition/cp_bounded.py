"""CP decomposition of least error under a bound on its sensitivity or on its intensities, by alternating least squares.

The mirror image of the error-preserving correction: factor after factor,

    min ||K_(1) - A Z'||^2   subject to   sum_r w_r^2 ||a_r||^2 <= c - (what A does not move),

again a ridge regression whose ridge is the root of a scalar equation
(:mod:`polyadic.decomposition.bounded_factor`). With ``Objective.INTENSITY`` it is the bounded-norm CPD that the EPC
paper (Phan, Tichavsky and Cichocki, IEEE TSP 67(5), 2019) goes on with after a correction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors, sweep
from polyadic.decomposition.batch import Batch, Extrapolated, Finished, Sweep, solutions, start_at
from polyadic.decomposition.bounded_factor import Objective, best_within
from polyadic.decomposition.solution import Solution, StopReason, check_batch
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class BoundedOptions:
    """What is bounded, and how long the fit runs.

    Attributes:
        bound: on the objective for the factors of ``K / ||K||``; that of the given factors when None.
        objective: what is bounded.
        max_sweeps: most sweeps.
        tolerance: stop when a sweep lowers the squared relative error by less than this fraction of it.
    """

    bound: float | None = None
    objective: Objective = Objective.SENSITIVITY
    max_sweeps: int = 500
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.bound is not None and not self.bound > 0:
            raise DecompositionError(f"a bound on the {self.objective.value} is above 0; got {self.bound}")
        if self.max_sweeps < 1:
            raise DecompositionError(f"a bounded fit takes at least one sweep; got {self.max_sweeps}")


def cp_bounded(K: Tensor, cp: CPTensor, options: BoundedOptions | None = None) -> Solution[CPTensor]:
    """Lower the error of ``cp`` (factors I_n x R of ``K``, any order >= 3) while an objective stays within its bound.

    Factors beyond the bound are first scaled down to it.

    Raises:
        DecompositionError: NaN or Inf, factors that do not fit ``K``.
    """
    options = options or BoundedOptions()
    unit = UnitTensors.of(check_batch([K], "cp_bounded"))
    start = options.objective.balanced(start_at(unit, cp, K, "cp_bounded"))
    bound = options.objective.of(start) if options.bound is None else torch.full_like(unit.norms, options.bound)
    return solutions([K], unit, fit_bounded(unit, start, bound, options))[0]


def fit_bounded(unit: UnitTensors, cp: CPTensor, bound: Tensor, options: BoundedOptions) -> list[Finished]:
    """Sweep each member under its ``bound`` (b) until its error stands still; the error never rises."""
    batch, state = Batch(unit), Extrapolated.at(_shrunk(cp, bound, options.objective), bound)
    sweeps = 0
    while batch.members:
        gain = state.step(batch.unit, _bounded(bound, options.objective))
        batch.record(state.error)
        sweeps += 1
        settled = gain <= options.tolerance * state.error
        stops = [StopReason.CONVERGED if end else StopReason.MAX_SWEEPS for end in settled.tolist()]
        staying = batch.retire(settled | (sweeps >= options.max_sweeps), state.cp, stops)
        if staying is not None:
            state.keep(staying)
            bound = bound[staying]
    return batch.finished()


def _bounded(bound: Tensor, objective: Objective) -> Sweep:
    def step(unit: UnitTensors, cp: CPTensor, positions: Tensor) -> tuple[CPTensor, Tensor, Tensor]:
        limit = bound[positions]
        # an extrapolated point may lie beyond the bound, where the first sub-problems have no room
        cp = _shrunk(objective.balanced(cp), limit, objective)
        cp, error = sweep(unit, cp, lambda block: best_within(block, limit, objective))
        return objective.balanced(cp), error, error

    return step


def _shrunk(cp: CPTensor, bound: Tensor, objective: Objective) -> CPTensor:
    """``cp`` scaled down to the bound where it is beyond; objectives are homogeneous in the tensor."""
    value, order = objective.of(cp), len(cp.factors)
    degree = 2.0 if objective is Objective.INTENSITY else 2.0 * (order - 1) / order
    return cp.scaled((bound / value.clamp_min(1e-300)).clamp_max(1.0) ** (1.0 / degree))
