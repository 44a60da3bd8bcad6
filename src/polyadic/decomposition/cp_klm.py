"""Krylov-Levenberg-Marquardt with bounded sensitivity (Tichavsky, Phan and Cichocki, IEEE SPL 26(11), 2019).

Among CP decompositions whose true sensitivity is ``c``, descend to one of least error. Every step:

    scale all factors so that the sensitivity s is c
    g = gradient of the error, u = gradient of s;   Lanczos bases Y_g, Y_u of m vectors, with H = J'J projected on them
    d_1 = (H + nu I)^(-1) g,  d_2 = (H + nu I)^(-1) u  in those bases:   (x - Y Y' x) / nu + Y (Y' H Y + nu I)^(-1) Y' x
    d = -(d_1 - (u'd_1 / u'd_2) d_2), tangent to the surface s = c;   scale back to s = c;   accept if the error fell

A refused step costs no new Krylov space: only nu changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import start_at
from polyadic.decomposition.gauss_newton import Damping, NormalEquations, dot
from polyadic.decomposition.solution import Solution, StopReason, check_batch, solution_of
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class KLMOptions:
    """The bound and how long the steps go on.

    Attributes:
        bound: sensitivity ``c`` of the factors of ``K / ||K||``; that of the given factors when None.
        max_steps: most steps, accepted or not.
        tolerance: stop when ``patience`` accepted steps in a row lower the squared error by less than this fraction.
        patience: see there.
        krylov: dimension m of each Krylov space.
    """

    bound: float | None = None
    max_steps: int = 300
    tolerance: float = 1e-6
    patience: int = 3
    krylov: int = 20

    def __post_init__(self) -> None:
        if self.bound is not None and not self.bound > 0:
            raise DecompositionError(f"a bound on the sensitivity is above 0; got {self.bound}")
        if self.max_steps < 1 or self.krylov < 1:
            raise DecompositionError(
                f"cp_klm takes at least one step and one Krylov vector; got {self.max_steps} and {self.krylov}"
            )


@dataclass(frozen=True)
class _Krylov:
    """An orthonormal basis of the Krylov space of ``x`` (m x entries) and H on it (m x m, tridiagonal)."""

    basis: Tensor
    H: Tensor
    x: Tensor

    def solve(self, nu: float) -> Tensor:
        """``(H + nu I)^(-1) x``, H being taken as 0 beyond the space."""
        inside = self.basis @ self.x
        identity = torch.eye(len(inside), dtype=self.x.dtype, device=self.x.device)
        solved: Tensor = torch.linalg.solve(self.H + nu * identity, inside)
        return (self.x - inside @ self.basis) / nu + solved @ self.basis


def cp_klm(K: Tensor, cp: CPTensor, options: KLMOptions | None = None) -> Solution[CPTensor]:
    """Lower the error of ``cp``, factors of ``K`` (any order >= 3), at a given sensitivity (Tichavsky et al. 2019).

    Raises:
        DecompositionError: NaN or Inf, factors that do not fit ``K``, a zero tensor or zero factors.
    """
    options = options or KLMOptions()
    unit = UnitTensors.of(check_batch([K], "cp_klm"))
    point = start_at(unit, cp, K, "cp_klm").rescaled()
    if not float(point.sensitivity()) > 0:
        raise DecompositionError("cp_klm keeps a sensitivity above 0; got a zero tensor or zero factors")
    bound = float(point.sensitivity()) if options.bound is None else options.bound
    best, stop, history = _steps(unit, _on_surface(point, bound), bound, options)
    return solution_of(K, unit.outside(best)[0], stop, history)


def _steps(
    unit: UnitTensors, cp: CPTensor, bound: float, options: KLMOptions
) -> tuple[CPTensor, StopReason, list[float]]:
    at, quiet = NormalEquations.at(unit, cp), 0
    history: list[float] = []
    damping: Damping | None = None
    spaces: tuple[_Krylov, _Krylov] | None = None
    for _ in range(options.max_steps):
        if spaces is None:
            spaces = _krylov(at, at.gradient, options.krylov), _krylov(at, at.sensitivity_gradient(), options.krylov)
        if not len(spaces[0].H):  # no gradient is left
            return at.cp, StopReason.CONVERGED, [*history, float(at.error)]
        if damping is None:
            damping = Damping.at(spaces[0].H.diagonal().amax()[None], share=0.5)
        nu = float(damping.value)
        d_g, d_u = (space.solve(nu) for space in spaces)
        u = spaces[1].x
        d = (-(d_g - (u @ d_g) / (u @ d_u) * d_u)).reshape(at.gradient.shape)
        new = NormalEquations.at(unit, _on_surface(at.moved(d), bound))
        foretold = -2.0 * dot(at.gradient, d) - dot(d, at.apply(d))
        gain = at.error - new.error
        if bool(damping.update(gain, foretold)):
            small = float(gain) <= options.tolerance * float(new.error)
            at, spaces, quiet = new, None, quiet + 1 if small else 0
        history.append(float(at.error))
        if quiet >= options.patience or bool(damping.exhausted):
            return at.cp, StopReason.CONVERGED, history
    return at.cp, StopReason.MAX_SWEEPS, history


def _on_surface(cp: CPTensor, bound: float) -> CPTensor:
    """Columns balanced and the whole scaled so that the sensitivity is ``bound``."""
    cp, order = cp.rescaled(), len(cp.factors)
    return cp.scaled((bound / cp.sensitivity()) ** (order / (2.0 * (order - 1))))


def _krylov(at: NormalEquations, x: Tensor, dimension: int) -> _Krylov:
    """Lanczos with full reorthogonalisation."""
    flat = x.flatten()
    basis = flat.new_zeros(min(dimension, len(flat)), len(flat))
    images = torch.zeros_like(basis)
    v, count = flat, 0
    for count in range(len(basis)):
        length = v.norm()
        if not bool(length > 1e-12 * flat.norm()):
            break
        basis[count] = v / length
        images[count] = at.apply(basis[count].reshape(x.shape)).flatten()
        v = images[count]
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            v = v - (basis[: count + 1] @ v) @ basis[: count + 1]
    else:
        count = len(basis)
    H = basis[:count] @ images[:count].mT
    return _Krylov(basis[:count], 0.5 * (H + H.mT), flat)
