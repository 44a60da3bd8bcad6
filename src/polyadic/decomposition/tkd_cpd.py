r"""TKD-CPD: Tucker-2, then stable CP of its core (Phan et al., ECCV 2020, section 2.4 and Fig. 1c).

``K ~ [[A, U B, V C]]`` with orthonormal U (S x R1), V (T x R2) and a CP of the core, ``G ~ [[A, B, C]]`` of rank R.
Because U and V are orthonormal the squared errors add,

    ||K - K^||^2 = (||K||^2 - ||G||^2) + ||G - G^||^2,

and it is the sensitivity of the core's factors that the correction controls.

**The split.** A smaller core costs less at the same R only where a side's two stages S - R1 - R stay apart,

    cost = min(S R, R1 (S + R)) + min(T R, R2 (T + R)) + R D^2,

that is for ``R1 < S R / (S + R)``. A side that is merged holds S R weights whatever R1 is, so there the Tucker-2 should
cut off nothing. Whether it pays to keep them apart is foretold without any CP: relative to the energy of the core, the
error of its CP is taken to follow from the share of the core's numbers that the CP holds,

    e_C^2 = ||G||^2 phi(R (D^2 + R1 + R2) / (D^2 R1 R2)),

with the same ``phi`` for all cores of one kernel. It is estimated from the Tucker-2 of the kernel at equal weights,
``phi = (squared error of Tucker-2)^p``, where p is measured on the kernel by a CP of it; without one, 1.7 is taken
(benchmarks/tucker.py). A TKD-CPD is a CP of the kernel, so it is never taken to be more exact than a CP of the kernel
with the same R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Factors
from polyadic.decomposition.cp_als import ALSOptions, cp_als
from polyadic.decomposition.solution import Solution, Stability, check_tensor, relative_error
from polyadic.decomposition.stable_cp import StableOptions, stable_cp
from polyadic.decomposition.tucker2 import tucker2
from polyadic.decomposition.tucker2_ranks import truncation_table, tucker2_bounded
from polyadic.errors import DecompositionError

TKDCost: TypeAlias = Callable[[int, int, int], float]

MEDIAN_EXPONENT = 1.7
ALLOWED = 1.1  # times the squared error of a plain CP: a split that adds more than that is not made
WORTHWHILE = 0.95  # of the weights of a plain CP: a split that saves less than that is not made


@dataclass(frozen=True)
class TuckerCP(Factors):
    """``K = [[A, U B, V C]]``.

    Attributes:
        core: CP of the core: A (D^2 x R), B (R1 x R), C (R2 x R).
        U: input side, S x R1, orthonormal columns.
        V: output side, T x R2, orthonormal columns.
    """

    core: CPTensor
    U: Tensor
    V: Tensor

    @property
    def ranks(self) -> tuple[int, int, int]:
        """(R1, R2, R)."""
        return int(self.U.shape[1]), int(self.V.shape[1]), self.core.rank

    def merged(self) -> CPTensor:
        """The CP of the whole kernel, [[A, U B, V C]]."""
        A, B, C = self.core.factors
        return CPTensor((A, self.U @ B, self.V @ C))

    def full(self) -> Tensor:
        """The tensor itself, D^2 x S x T."""
        return self.merged().full()

    def times_input(self, M: Tensor) -> TuckerCP:
        """``K x_S M``; U is orthonormal no more."""
        return TuckerCP(self.core, M @ self.U, self.V)


def tkd_cpd(
    K: Tensor,
    rank: int,
    *,
    ranks: tuple[int, int] | None = None,
    tucker_error: float | None = None,
    options: StableOptions | None = None,
    seed: int = 0,
) -> Solution[TuckerCP]:
    """Decompose ``K`` (D^2 x S x T) by Tucker-2 and its core by a stable CP of rank ``rank``.

    Args:
        K: the kernel.
        rank: CP rank R of the core.
        ranks: multilinear ranks (R1, R2); or
        tucker_error: bound on the relative error of the Tucker-2 part, which then finds (R1, R2) itself. With neither
            they are those of which the least error at equal weights is to be expected (:func:`likely_ranks`).
        options: of the stable CP.
        seed: of the stable CP.

    Raises:
        DecompositionError: NaN or Inf, both of ``ranks`` and ``tucker_error``, a rank or bound out of range.
    """
    if ranks is not None and tucker_error is not None:
        raise DecompositionError("tkd_cpd takes ranks (R1, R2) or a tucker_error bound, or neither; got both")
    X = check_tensor(K, "tkd_cpd", order=3)
    if tucker_error is not None:
        outer = tucker2_bounded(X, tucker_error)
    else:
        outer = tucker2(X, likely_ranks(forecast_split(X, rank, seed), rank) if ranks is None else ranks)
    core = stable_cp(outer.factors.G, rank, options, seed=seed)
    norm = float(X.norm())
    result = TuckerCP(core.factors, outer.factors.U, outer.factors.V).to(K)
    stability = Stability.of(result.core, norm)
    return Solution(result, relative_error(K, result), core.stop, core.sweeps, core.history, stability)


def tkd_weights(shape: tuple[int, ...]) -> TKDCost:
    """Weights of ``(R1, R2, R)`` for a D^2 x S x T kernel, each side merged where that holds fewer."""
    D2, S, T = shape
    return lambda R1, R2, R: min(S * R, R1 * (S + R)) + min(T * R, R2 * (T + R)) + R * D2


class SplitForecast:
    """What a TKD-CPD of a kernel (D^2 x S x T, float64) of given ranks may be expected to reach.

    Attributes:
        lost: ``delta_T^2 / ||K||^2`` of every pair (R1, R2), S x T, by truncated HOSVD.
        exponent: p.
    """

    def __init__(self, X: Tensor) -> None:
        self.shape = tuple(int(size) for size in X.shape)
        D2, S, T = self.shape
        kept = truncation_table(X)
        self.lost = (1.0 - kept / kept[-1, -1].clamp_min(1e-300)).clamp_min(0.0)
        self.exponent = MEDIAN_EXPONENT
        self.R1, self.R2 = torch.arange(1.0, S + 1)[:, None].double(), torch.arange(1.0, T + 1).double()
        weights, order = (self.R1 * S + self.R2 * T + D2 * self.R1 * self.R2).flatten().sort()
        self._shares = weights / (D2 * S * T)
        self._errors = self.lost.flatten()[order].cummin(0).values.clamp(1e-12, 1.0)

    def calibrate(self, rank: int, error: float) -> None:
        """Take p from the relative error of a CP of the kernel itself with ``rank`` terms."""
        D2, S, T = self.shape
        tucker = self._tucker(torch.tensor(rank * (D2 + S + T) / (D2 * S * T)))
        if float(tucker) < 0.9 and 1e-6 < error < 0.95:
            self.exponent = min(4.0, max(0.3, 2.0 * float(torch.tensor(error).log() / tucker.log())))

    def core_error(self, share: Tensor) -> Tensor:
        """``phi`` of shares of the core's numbers."""
        return torch.where(share >= 1.0, 1e-12, self._tucker(share) ** self.exponent)

    def rank_for(self, left: Tensor) -> Tensor:
        """The CP rank R (S x T) that leaves the squared error ``left`` (S x T), relative to the core's energy."""
        errors = self._errors**self.exponent
        at = torch.searchsorted(-errors, -left.clamp_min(1e-12).contiguous()).clamp_max(len(errors) - 1)
        share = self._shares[at].clamp_max(1.0)
        D2 = self.shape[0]
        return (share * D2 * self.R1 * self.R2 / (D2 + self.R1 + self.R2)).ceil().clamp_min(1.0)

    def _tucker(self, share: Tensor) -> Tensor:
        at = (torch.searchsorted(self._shares, share.contiguous(), right=True) - 1).clamp_min(0)
        return torch.where(share < self._shares[0], 1.0, self._errors[at])


def forecast_split(X: Tensor, rank: int, seed: int = 0) -> SplitForecast:
    """A forecast for ``X`` (D^2 x S x T) whose p is that of a short plain CP of this rank (a hundred sweeps)."""
    forecast = SplitForecast(X)
    forecast.calibrate(rank, cp_als(X, rank, ALSOptions(max_sweeps=100), seed=seed).relative_error)
    return forecast


def likely_ranks(forecast: SplitForecast, rank: int) -> tuple[int, int]:
    """(R1, R2) for a TKD-CPD of CP rank R: the cheapest whose forecast error is little above that of a plain CP.

    A side that would be merged stays whole, and so do both where little would be saved.
    """
    D2, S, T = forecast.shape
    R1, R2 = forecast.R1, forecast.R2
    as_cp = float(forecast.core_error(torch.tensor(rank * (D2 + S + T) / (D2 * S * T), dtype=torch.float64)))
    left = forecast.core_error(rank * (D2 + R1 + R2) / (D2 * R1 * R2))
    total = (forecast.lost + (1.0 - forecast.lost) * left).clamp_min(as_cp)
    cost = (R1 * (S + rank)).clamp_max(S * rank) + (R2 * (T + rank)).clamp_max(T * rank) + rank * D2
    cost = torch.where(total <= ALLOWED * as_cp, cost, torch.inf)
    at = int(cost.argmin())
    if float(cost.flatten()[at]) > WORTHWHILE * rank * (D2 + S + T):
        return S, T
    first, second = at // T + 1, at % T + 1
    return (
        first if first * (S + rank) < S * rank else S,
        second if second * (T + rank) < T * rank else T,
    )
