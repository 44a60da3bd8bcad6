"""CP by the Levenberg-Marquardt method: damped Gauss-Newton steps, by preconditioned conjugate gradients.

Every step solves ``(J'J + mu W + nu I) d = -gradient`` of ``(||K - K^||^2 + mu * sensitivity) / 2`` approximately, with
structured products (:mod:`polyadic.decomposition.gauss_newton`), preconditioned by its diagonal blocks. Columns are
balanced after each step, so that the identity means the same in every mode. The damping nu follows Nielsen's rule. With
``mu = 0`` it is the plain fit, which degenerates as ALS does, only faster; with ``mu > 0`` the penalised one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import Batch, Finished, choose, initial_cp, solutions, start_at
from polyadic.decomposition.gauss_newton import Damping, NormalEquations, conjugate_gradients, dot
from polyadic.decomposition.solution import Solution, StopReason, check_batch
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class LMOptions:
    """How long the steps go on and how exactly each is solved.

    Attributes:
        mu: penalty on the sensitivity (for ``||K|| = 1``); 0 for none.
        max_steps: most steps, accepted or not.
        tolerance: stop when ``patience`` accepted steps in a row lower the objective by less than this fraction of it.
        patience: see there.
        inner_steps: most conjugate gradient steps for one step.
        inner_tolerance: relative residual at which they stop.
        init: "random" or "singular", where no factors are given.
    """

    mu: float = 0.0
    max_steps: int = 200
    tolerance: float = 1e-8
    patience: int = 3
    inner_steps: int = 25
    inner_tolerance: float = 1e-3
    init: str = "random"

    def __post_init__(self) -> None:
        if not self.mu >= 0:
            raise DecompositionError(f"a penalty mu is >= 0; got {self.mu}")
        if self.max_steps < 1 or self.inner_steps < 1:
            raise DecompositionError(
                f"cp_lm takes at least one step and one inner step; got {self.max_steps} and {self.inner_steps}"
            )


def cp_lm(
    K: Tensor, rank: int, options: LMOptions | None = None, *, start: CPTensor | None = None, seed: int = 0
) -> Solution[CPTensor]:
    """Fit ``K`` (any order >= 3) by ``rank`` rank-one terms with damped Gauss-Newton steps.

    They begin at ``start`` (factors I_n x R), or at a starting point of ``seed``.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1, a start that does not fit.

    Example:
        >>> K = torch.randn(9, 8, 12, generator=torch.Generator().manual_seed(0))  # D^2 x S x T
        >>> solution = cp_lm(K, 10, LMOptions(mu=1e-4, max_steps=50))
        >>> round(solution.relative_error, 1), solution.factors.shape
        (0.7, (9, 8, 12))
    """
    options = options or LMOptions()
    unit = UnitTensors.of(check_batch([K], "cp_lm"))
    if start is None:
        point = initial_cp(unit, rank, options.init, [seed])
    else:
        point = start_at(unit, start, K, "cp_lm")
        if start.rank != rank:
            raise DecompositionError(f"cp_lm: the start has rank {start.rank}, asked was {rank}")
    return solutions([K], unit, damped_steps(unit, point, options))[0]


def damped_steps(unit: UnitTensors, cp: CPTensor, options: LMOptions) -> list[Finished]:
    """Step each member from ``cp`` until its objective stands still; it never rises."""
    batch = Batch(unit)
    mu = torch.full_like(unit.norms, options.mu)
    cp = cp.rescaled()
    at = NormalEquations.at(unit, cp)
    damping = Damping.at(torch.stack([Gamma.diagonal(dim1=-2, dim2=-1).amax(-1) for Gamma in at.blocks]).amax(0))
    quiet, steps = torch.zeros_like(mu), 0
    while batch.members:
        nu = damping.value

        def curvature(d: Tensor, at: NormalEquations = at, mu: Tensor = mu) -> Tensor:
            return at.apply(d) + mu[:, None, None] * at.weighted(d)

        def damped(d: Tensor, nu: Tensor = nu) -> Tensor:
            return curvature(d) + nu[:, None, None] * d

        gradient = at.gradient + mu[:, None, None] * at.sensitivity_gradient()
        d = conjugate_gradients(
            damped, -gradient, at.block_solver(nu, mu), steps=options.inner_steps, tolerance=options.inner_tolerance
        )
        foretold = -2.0 * dot(gradient, d) - dot(d, curvature(d))  # of the objective, which is twice the model's
        new = NormalEquations.at(batch.unit, at.moved(d).rescaled())
        before, after = (point.error + mu * point.cp.sensitivity() for point in (at, new))
        accepted = damping.update(before - after, foretold)
        at = _chosen(accepted, new, at)
        steps += 1
        batch.record(at.error)
        small = accepted & (before - after <= options.tolerance * after)
        quiet = torch.where(small, quiet + 1, torch.where(accepted, 0.0, quiet))
        settled = (quiet >= options.patience) | damping.exhausted
        stops = [StopReason.CONVERGED if end else StopReason.MAX_SWEEPS for end in settled.tolist()]
        staying = batch.retire(settled | (steps >= options.max_steps), at.cp, stops)
        if staying is not None:
            at, mu, quiet = NormalEquations.at(batch.unit, at.cp[staying]), mu[staying], quiet[staying]
            damping.keep(staying)
    return batch.finished()


def _chosen(where: Tensor, first: NormalEquations, second: NormalEquations) -> NormalEquations:
    """``first`` for those ``where``, ``second`` for the others."""
    if bool(where.all()):
        return first

    def pick(a: Any, b: Any) -> Any:
        if isinstance(a, CPTensor):
            return choose(where, a, b)
        if isinstance(a, dict):
            return {key: pick(value, b[key]) for key, value in a.items()}
        if isinstance(a, tuple):
            return tuple(pick(x, y) for x, y in zip(a, b, strict=True))
        return torch.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return NormalEquations(**pick(vars(first), vars(second)))
