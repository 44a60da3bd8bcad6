"""What every decomposition returns: the factors, how good and how stable they are, and why the solver stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Factors
from polyadic.errors import DecompositionError


class StopReason(Enum):
    """Why a solver stopped, as advice."""

    CLOSED_FORM = "closed form: nothing to iterate"
    CONVERGED = "converged: the objective no longer changes"
    MAX_SWEEPS = "sweep limit reached before convergence: allow more sweeps if the error matters"
    DEGENERATE = (
        "the error falls on only while cancelling components grow (no best approximation of this rank exists, or it is "
        "far away): they were kept bounded; raise the rank for less error, or lower it for less sensitivity"
    )
    STABLE = (
        "the error stands more than half a percent above that of plain ALS, which pays for it with sensitivity: allow "
        "more sensitivity, or raise the rank for less error"
    )
    DEAD = "the penalty on sensitivity left hardly any terms: end the path at a weaker one, or raise the rank"
    BOUND_UNMET = "no factors of this rank met the error bound: raise the rank or allow a larger error"
    DIVERGING = (
        "component norms grew while the error stalled (degenerate CPD): lower the rank or use cp-epc, "
        "which keeps the sensitivity small"
    )


F = TypeVar("F", bound=Factors, covariant=True)


@dataclass(frozen=True)
class Stability:
    """How a CP decomposition stands small perturbations, for the factors of ``K / ||K||`` with balanced columns.

    Balanced columns have ``||a_r||^2 : ||b_r||^2 : ||c_r||^2 = I : J : L``
    (:meth:`polyadic.algebra.CPTensor.rescaled`). All figures are free of the kernel's scale.

    Attributes:
        sensitivity: true sensitivity, ``sum_r (I b^2 c^2 + J a^2 c^2 + L a^2 b^2)``.
        sensitivity_lemma: ``ss`` as Lemma 1 of Phan et al. 2020 prints it, without the sizes.
        sum_squared_intensity: ``sum_r lambda_r^2`` (their eq. 3).
        intensity_ratio: largest over smallest intensity of a term that is not zero.
    """

    sensitivity: float
    sensitivity_lemma: float
    sum_squared_intensity: float
    intensity_ratio: float

    @staticmethod
    def of(cp: CPTensor, norm: float) -> Stability:
        """The figures of ``cp``, a decomposition of a tensor with Frobenius norm ``norm``."""
        unit = cp.double()
        unit = (unit.scaled(1.0 / norm) if norm > 0 else unit).rescaled()
        intensities = unit.intensities()
        alive = intensities[intensities > 0]
        ratio = float(alive.max() / alive.min()) if alive.numel() else 1.0
        return Stability(
            float(unit.sensitivity()), float(unit.sensitivity_lemma()), float(unit.sum_squared_intensity()), ratio
        )


@dataclass(frozen=True)
class Solution(Generic[F]):
    """A decomposition and what is known of it.

    Attributes:
        factors: the tensor in its format, in the dtype and on the device of the input.
        relative_error: ``||K - K^|| / ||K||``, computed in float64 from ``factors`` as they are stored.
        stop: why the solver stopped.
        sweeps: sweeps over all factors, 0 for a closed form.
        history: relative error after every sweep.
        stability: sensitivity and intensities (CP and CP of a core only).
    """

    factors: F
    relative_error: float
    stop: StopReason
    sweeps: int = 0
    history: tuple[float, ...] = ()
    stability: Stability | None = None


def check_tensor(K: Tensor, name: str, order: int | None = None) -> Tensor:
    """``K`` in float64 after the checks that every decomposition makes; any order >= 3 where none is asked for.

    Raises:
        DecompositionError: not a floating tensor of the right order, an empty mode, NaN or Inf entries.
    """
    check_entries(K, name, order)
    return K.detach().double()


def check_entries(K: Tensor, name: str, order: int | None = None) -> None:
    """The checks of :func:`check_tensor`, without a copy of a large tensor.

    Raises:
        DecompositionError: as there.
    """
    if not K.is_floating_point():
        raise DecompositionError(
            f"{name} decomposes real floating-point tensors; got dtype {K.dtype}: convert it first"
        )
    if (K.ndim != order if order else K.ndim < 3) or 0 in K.shape:
        wanted = str(order) if order else "3 or more"
        raise DecompositionError(
            f"{name} takes a tensor of order {wanted} without empty modes; got shape {tuple(K.shape)}"
        )
    X = K.detach() if K.dtype in (torch.float32, torch.float64) else K.detach().double()
    low, high = (float(value) for value in X.aminmax())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(X)).sum())
        raise DecompositionError(
            f"{name} needs finite entries; got {bad} of {K.numel()} NaN or Inf: repair the weights"
        )
    largest = max(-low, high)
    if largest > 0 and not 1e-100 < largest < 1e100:  # the square of its norm would leave the range of float64
        raise DecompositionError(
            f"{name} needs a largest entry between 1e-100 and 1e100; got {largest:.1e}: scale the tensor first"
        )


def check_batch(tensors: Sequence[Tensor], name: str) -> Tensor:
    """Tensors of one shape, each checked, stacked in float64.

    Raises:
        DecompositionError: as :func:`check_tensor`, or no tensor, or tensors of different shapes.
    """
    if not tensors or any(K.shape != tensors[0].shape for K in tensors):
        shapes = sorted({tuple(K.shape) for K in tensors})
        raise DecompositionError(f"{name} takes one or more tensors of one shape; got shapes {shapes}")
    return torch.stack([check_tensor(K, name) for K in tensors])


def check_rank(rank: int) -> None:
    """Refuse a CP rank below 1.

    Raises:
        DecompositionError: so it is.
    """
    if rank < 1:
        raise DecompositionError(f"a CP rank is a positive whole number; got {rank}: ask for at least 1")


def relative_error(K: Tensor, factors: Factors) -> float:
    """``||K - K^|| / ||K||`` in float64 (0 for a zero tensor that is met exactly).

    Raises:
        DecompositionError: factors that left the range of their dtype.
    """
    if not factors.is_finite():
        raise DecompositionError(
            f"the factors of this tensor leave the range of {K.dtype}: decompose it in float32 or scale it down"
        )
    X = K.detach().double()
    approximation = factors.to(X).full()
    norm, residual = float(X.norm()), float((X - approximation).norm())
    return residual / norm if norm > 0 else residual


def solution_of(K: Tensor, cp: CPTensor, stop: StopReason, squared_errors: Sequence[float] = ()) -> Solution[CPTensor]:
    """Balance the columns of ``cp``, a decomposition of ``K``, and measure what is handed over."""
    result = cp.rescaled().to(K)
    history = tuple(error**0.5 for error in squared_errors)
    stability = Stability.of(result, float(K.detach().double().norm()))
    return Solution(result, relative_error(K, result), stop, len(history), history, stability)
