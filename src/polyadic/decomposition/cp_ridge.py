"""Sensitivity-penalised CP by ridge ALS, as a homotopy from a strong to a weak penalty.

Each factor minimises ``||K - K^||^2 + mu * sensitivity`` with the others fixed:

    A <- G_A (Gamma_A + mu diag(w^2))^(-1),    w_r^2 = L ||b_r||^2 + J ||c_r||^2  (cyclic),

and after every sweep the columns get their best norms (:meth:`polyadic.algebra.CPTensor.rescaled`). Both steps lower
the objective. Begun at a strong penalty and weakened step by step, this ends at a lower error *and* a far lower
sensitivity than long plain ALS: cancelling terms never form, because they are too dear from the start.

Two things make it fast. Sweeps are extrapolated (:class:`polyadic.decomposition.batch.Extrapolated`). And the path ends
by itself: once the penalty term is a small share of the squared error, weakening it further buys little error for much
sensitivity. A first penalty that is too strong for a tensor (large ones with flat spectra) makes all terms vanish, and
itself; such a point is no end of a path, which goes on to weaker penalties until the terms are back. Every member of a
batch follows a path of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block, UnitTensors, solve_gram, sweep
from polyadic.decomposition.batch import Batch, Extrapolated, Finished, Sweep, initial_cp, solutions
from polyadic.decomposition.solution import Solution, StopReason, check_batch
from polyadic.errors import DecompositionError

EXACT = 1e-14  # squared relative error at which a tensor counts as met
_LEAST_WEAKENING = 1.05
_HARDLY_ANYTHING = 1e-3  # of the squared norm of the tensor


@dataclass(frozen=True)
class RidgeOptions:
    """The path of penalties (for ``||K|| = 1``) and how long each is held.

    Attributes:
        strongest: first penalty ``mu``.
        weakening: each penalty is the one before divided by this, or by less to land on the end of the path.
        weakest: the path ends here at the latest.
        share: the path ends when ``mu * sensitivity`` is down to this share of the squared error (up to 2 %). Chosen
            with ``weakening`` on the 3 x 3 kernels of ResNet-56 (benchmarks/cp_quality.py).
        error: the path also ends once the relative error is down to this.
        sensitivity: the path also ends once the sensitivity is up to this.
        max_sweeps: most sweeps at each penalty.
        tolerance: a penalty is left when a sweep lowers the objective by less than this fraction of it.
        init: "random" or "singular".
    """

    strongest: float = 1e-3
    weakening: float = 1.5
    weakest: float = 1e-9
    share: float = 0.03
    error: float = 0.0
    sensitivity: float = math.inf
    max_sweeps: int = 100
    tolerance: float = 1e-5
    init: str = "random"

    def __post_init__(self) -> None:
        if not (self.strongest >= self.weakest > 0 and self.weakening > 1):
            raise DecompositionError(
                "a path of penalties goes down from strongest to weakest > 0 by a factor above 1; got "
                f"{self.strongest} to {self.weakest} by {self.weakening}"
            )
        if self.max_sweeps < 1:
            raise DecompositionError(f"every penalty is held for at least one sweep; got {self.max_sweeps}")


@dataclass(frozen=True)
class PathPoint:
    """One end of a descent: the penalty, the factors that it led to (of the unit tensor) and their squared error."""

    mu: float
    cp: CPTensor
    squared_error: float


Visit: TypeAlias = Callable[[int, PathPoint], None]


def cp_ridge(K: Tensor, rank: int, options: RidgeOptions | None = None, *, seed: int = 0) -> Solution[CPTensor]:
    """Fit ``K`` (any order >= 3) by ``rank`` rank-one terms along a path of falling sensitivity penalties.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1.
    """
    return cp_ridge_batch([K], rank, options, seeds=[seed])[0]


def cp_ridge_batch(
    tensors: Sequence[Tensor], rank: int, options: RidgeOptions | None = None, *, seeds: Sequence[int] | None = None
) -> list[Solution[CPTensor]]:
    """:func:`cp_ridge` of tensors of one shape, worked on together; ``seeds`` one for each, 0 when absent."""
    options = options or RidgeOptions()
    unit = UnitTensors.of(check_batch(tensors, "cp_ridge"))
    start = initial_cp(unit, rank, options.init, seeds or [0] * len(unit))
    return solutions(tensors, unit, follow_path(unit, start, options))


def cp_ridge_curve(K: Tensor, rank: int, options: RidgeOptions | None = None, *, seed: int = 0) -> list[PathPoint]:
    """All points of one path, strongest penalty first: error against sensitivity of ``K / ||K||`` in a single run.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1.
    """
    options = options or RidgeOptions()
    unit = UnitTensors.of(check_batch([K], "cp_ridge"))
    points: list[PathPoint] = []

    def keep(_: int, point: PathPoint) -> None:
        one = UnitTensors(unit.X, torch.ones_like(unit.norms), unit.squares, unit.order)
        points.append(PathPoint(point.mu, one.outside(point.cp[None])[0], point.squared_error))

    follow_path(unit, initial_cp(unit, rank, options.init, [seed]), options, visit=keep)
    return points


def follow_path(
    unit: UnitTensors, cp: CPTensor, options: RidgeOptions, *, mu: Tensor | None = None, visit: Visit | None = None
) -> list[Finished]:
    """Walk the path of every member from ``cp``, beginning at the penalties ``mu`` (strongest when absent)."""
    batch = Batch(unit)
    mu = torch.zeros_like(unit.norms) + (options.strongest if mu is None else mu)
    held, growth, state = torch.zeros_like(mu), _Growth.at(mu), Extrapolated.at(cp, mu)
    while batch.members:
        gain = state.step(batch.unit, _penalised(mu))
        batch.record(state.error)
        held = held + 1
        settled = gain <= options.tolerance * state.objective
        leaving = settled | (held >= options.max_sweeps)
        if not bool(leaving.any()):
            continue
        if visit:
            for position in torch.nonzero(leaving).flatten().tolist():
                point = PathPoint(float(mu[position]), state.cp[position], float(state.error[position]))
                visit(batch.members[position], point)
        penalty = state.objective - state.error
        dead = _is_dead(batch.unit, state.error, penalty)
        landed = ((penalty <= 1.02 * options.share * state.error) & ~dead) | (
            state.error <= max(options.error**2, EXACT)
        )
        landed = landed | (penalty >= options.sensitivity * mu)
        factor = (penalty / (options.share * state.error).clamp_min(1e-300)).clamp(_LEAST_WEAKENING, options.weakening)
        factor = torch.where(dead, options.weakening, factor)
        at_end = mu / factor < options.weakest
        growth.note(leaving, penalty / mu, mu)
        degenerate = at_end & ~landed & growth.unbounded
        stops = [_reason(*each) for each in zip(settled.tolist(), degenerate.tolist(), dead.tolist(), strict=True)]
        staying = batch.retire(leaving & (landed | at_end), state.cp, stops)

        state.restart(leaving, state.error + penalty / factor)
        mu, held = torch.where(leaving, mu / factor, mu), torch.where(leaving, 0.0, held)
        if staying is not None:
            state.keep(staying)
            growth.keep(staying)
            mu, held = mu[staying], held[staying]
    return batch.finished()


def _is_dead(unit: UnitTensors, error: Tensor, penalty: Tensor) -> Tensor:
    """Where (b) the penalty holds most terms at nothing: they explain hardly anything, or not even twice the penalty.

    Under too strong a penalty the terms vanish, and the penalty with them: it is small, but it has not done its work.
    As it is weakened further, they come back.
    """
    explained = unit.squares - error
    return (explained < torch.maximum(2.0 * penalty, _HARDLY_ANYTHING * unit.squares)) & (error > EXACT)


@dataclass
class _Growth:
    """How the sensitivity grows while the penalty falls; all are vectors over the batch.

    Near a tensor of lower border rank it grows as a power of 1 / mu, and no share is ever landed on. Sweeps may rest on
    a plateau for a few penalties, so the exponent is a running mean over about five of them.
    """

    exponent: Tensor
    sensitivity: Tensor
    mu: Tensor

    @staticmethod
    def at(mu: Tensor) -> _Growth:
        return _Growth(torch.zeros_like(mu), torch.ones_like(mu), torch.full_like(mu, torch.inf))

    @property
    def unbounded(self) -> Tensor:
        return self.exponent > 0.03

    def note(self, where: Tensor, sensitivity: Tensor, mu: Tensor) -> None:
        """The sensitivity at the end of the penalty ``mu``, for those ``where``."""
        latest = (sensitivity.clamp_min(1e-300) / self.sensitivity).log() / (self.mu / mu).log()
        self.exponent = torch.where(where, torch.lerp(self.exponent, latest, 0.2), self.exponent)
        self.sensitivity = torch.where(where, sensitivity.clamp_min(1e-300), self.sensitivity)
        self.mu = torch.where(where, mu, self.mu)

    def keep(self, positions: Tensor) -> None:
        """Only those at ``positions`` go on."""
        self.exponent, self.sensitivity, self.mu = (v[positions] for v in (self.exponent, self.sensitivity, self.mu))


def _reason(settled: bool, degenerate: bool, dead: bool) -> StopReason:
    if dead:
        return StopReason.DEAD
    if degenerate:
        return StopReason.DEGENERATE
    return StopReason.CONVERGED if settled else StopReason.MAX_SWEEPS


def _penalised(mu: Tensor) -> Sweep:
    """Sweeps that lower ``||X - X^||^2 + mu * sensitivity``."""

    def step(unit: UnitTensors, cp: CPTensor, positions: Tensor) -> tuple[CPTensor, Tensor, Tensor]:
        penalty = mu[positions]

        def update(block: Block) -> Tensor:
            return solve_gram(block.Gamma + torch.diag_embed(penalty[:, None] * block.weight), block.G)

        cp, error = sweep(unit, cp, update)
        cp = cp.rescaled()
        return cp, error, error + penalty * cp.sensitivity()

    return step
