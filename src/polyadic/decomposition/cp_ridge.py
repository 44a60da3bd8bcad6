"""Sensitivity-penalised CP by ridge ALS, as a homotopy from a strong to a weak penalty.

Each factor minimises ``||K - K^||^2 + mu * sensitivity`` with the others fixed:

    A = G_A (Gamma_A + mu diag(w^2))^(-1),      w_r^2 = L b_r^2 + J c_r^2,

and the columns are rescaled to their best norms after every sweep, so the objective never rises. Started at random
with a strong penalty and weakened step by step, the path ends at a lower error *and* at a far lower sensitivity than
long plain ALS, because the components never get the chance to grow against each other. Every point of it is a usable
decomposition.

Two things make the path short. Sweeps start from an extrapolated point ``x + beta (x - x_previous)``; where that does
not lower the objective, a plain sweep from ``x`` replaces it and ``beta`` is halved (the restart rule of Ang, Cohen and
Gillis, Numer. Algorithms 2019, for ALS). And the path ends by itself: once the penalty term is a small share of the
squared error, weakening it further buys little error for much sensitivity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CP
from polyadic.decomposition.alternation import Block, alive, solve_gram, sweep, unit_tensor
from polyadic.decomposition.cp_init import initial_cp
from polyadic.decomposition.solution import Solution, StopReason, checked, finished
from polyadic.errors import DecompositionError

EXACT = 1e-14  # squared relative error at which a tensor counts as met


@dataclass(frozen=True)
class RidgeOptions:
    """The path of penalties (for ``||K|| = 1``) and how long each is held.

    Attributes:
        strongest: first penalty ``mu``.
        weakening: each penalty is the one before divided by this.
        weakest: the path ends here at the latest.
        share: the path ends when ``mu * sensitivity <= share * squared error``. Chosen with
            ``weakening`` on the 3 x 3 kernels of ResNet-56 (benchmarks/kernels.py).
        max_sweeps: most sweeps at each penalty.
        tolerance: a penalty is left when a sweep lowers the objective by less than this fraction of it.
        init: "random" or "singular".
    """

    strongest: float = 1e-3
    weakening: float = 1.5
    weakest: float = 1e-9
    share: float = 0.08
    max_sweeps: int = 100
    tolerance: float = 1e-5
    init: str = "random"

    def __post_init__(self) -> None:
        """Refuse a path that does not go down."""
        if not (self.strongest >= self.weakest > 0 and self.weakening > 1):
            raise DecompositionError(
                "a path of penalties goes down from strongest to weakest > 0 by a factor above 1; got "
                f"{self.strongest} to {self.weakest} by {self.weakening}"
            )


@dataclass(frozen=True)
class PathPoint:
    """One end of a descent: the penalty and the factors that it led to (of ``K / ||K||``)."""

    mu: float
    cp: CP
    squared_errors: tuple[float, ...]
    stop: StopReason


def cp_ridge(K: Tensor, rank: int, options: RidgeOptions | None = None, *, seed: int = 0) -> Solution[CP]:
    """Fit ``K`` (I x J x L) by ``rank`` rank-one terms along a path of falling sensitivity penalties.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a rank below 1.
    """
    options = options or RidgeOptions()
    X, norm = unit_tensor(checked(K, "cp_ridge", order=3))
    history: list[float] = []
    for point in ridge_path(X, initial_cp(X, rank, options.init, seed), options):
        history += point.squared_errors
    return finished(K, point.cp, norm, point.stop, history)


def ridge_path(X: Tensor, cp: CP, options: RidgeOptions) -> Iterator[PathPoint]:
    """The points of the homotopy from ``cp`` for a unit tensor ``X``, strongest penalty first."""
    mu = options.strongest
    while True:
        cp, errors, stop = descend(X, cp, mu, options.max_sweeps, options.tolerance)
        yield PathPoint(mu, cp, tuple(errors), stop)
        small = mu * cp.sensitivity() <= options.share * errors[-1]
        if small or errors[-1] <= EXACT or mu / options.weakening < options.weakest:
            return
        mu /= options.weakening


def descend(X: Tensor, cp: CP, mu: float, max_sweeps: int, tolerance: float) -> tuple[CP, list[float], StopReason]:
    """Lower ``||X - X^||^2 + mu * sensitivity`` from ``cp`` until it stands still; it never rises."""
    cp, error, objective = _ridge_sweep(X, alive(cp), mu)
    previous, beta, ceiling = cp, 0.5, 1.0
    history = [error]
    for _ in range(max_sweeps - 1):
        candidate, error, value = _ridge_sweep(X, _extrapolated(cp, previous, beta), mu)
        if value > objective:
            ceiling, beta = beta, 0.5 * beta
            candidate, error, value = _ridge_sweep(X, cp, mu)
        else:
            beta, ceiling = min(ceiling, 1.05 * beta), min(1.0, 1.02 * ceiling)
        history.append(error)
        gain = objective - value
        previous, cp, objective = cp, candidate, value
        if gain <= tolerance * objective:
            return cp, history, StopReason.CONVERGED
    return cp, history, StopReason.MAX_SWEEPS


def _ridge_sweep(X: Tensor, cp: CP, mu: float) -> tuple[CP, float, float]:
    """One sweep and the rescaling: the new factors, their squared error and the objective."""

    def update(block: Block) -> Tensor:
        return solve_gram(block.Gamma + torch.diag(mu * block.weight), block.G)

    cp, error = sweep(X, cp, update)
    cp = cp.rescaled()
    return cp, error, error + mu * cp.sensitivity()


def _extrapolated(cp: CP, previous: CP, beta: float) -> CP:
    return CP(tuple(U + beta * (U - V) for U, V in zip(cp.factors, previous.factors, strict=True)))
