r"""How the error of a TKD-CPD is best divided between its Tucker-2 and the CP of its core.

Because U and V are orthonormal the squared errors add: ``delta^2 = delta_T^2 + ||G - G^||^2`` (Phan et al., ECCV 2020).
A smaller core costs less at the same R only where a side's two 1 x 1 stages S - R1 - R are really kept apart,

    cost = min(S R, R1 (S + R)) + min(T R, R2 (T + R)) + R D^2,

that is for ``R1 < S R / (S + R)``; a side that is merged holds S R weights whatever R1 is, so there the Tucker-2 should
cut off nothing. Whether it pays to keep them apart is foretold without any CP: relative to the energy of the core, the
error of its CP is taken to follow from the share of the core's numbers that the CP holds,

    e_C^2 = ||G||^2 phi(R (D^2 + R1 + R2) / (D^2 R1 R2)),

with the same ``phi`` for all cores of one kernel. It is estimated from the Tucker-2 of the kernel at equal weights,
``phi = (squared error of Tucker-2)^p``, where p is measured on the kernel by a CP of it; without one, 1.7 is taken
(benchmarks/tucker.py).
A TKD-CPD is a CP of the kernel, so it is never taken to be more exact than a CP of the kernel with the same R.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.decomposition.cp_als import ALSOptions, cp_als
from polyadic.decomposition.tucker2_frontier import truncation_table

TKDCost: TypeAlias = Callable[[int, int, int], float]

MEDIAN_EXPONENT = 1.7
ALLOWED = 1.1  # times the squared error of a plain CP: a split that adds more than that is not made
WORTHWHILE = 0.95  # of the weights of a plain CP: a split that saves less than that is not made


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


def calibrate(X: Tensor, rank: int, seed: int = 0) -> SplitForecast:
    """A forecast for ``X`` whose p is that of a short plain CP of this rank (a hundred sweeps)."""
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
