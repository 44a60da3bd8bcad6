"""Nielsen's rule for the damping of Levenberg-Marquardt steps (Madsen, Nielsen and Tingleff 2004), for batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Damping:
    """One damping per member.

    Attributes:
        value: nu (b).
        growth: by what the next refusal multiplies it.
        largest: beyond this no step is possible any more.
    """

    value: Tensor
    growth: Tensor
    largest: Tensor

    @staticmethod
    def at(scale: Tensor, share: float = 1e-3) -> Damping:
        """Begin at a share of the largest curvature (b)."""
        return Damping(share * scale.clamp_min(1e-300), torch.full_like(scale, 2.0), 1e12 * scale.clamp_min(1e-300))

    @property
    def exhausted(self) -> Tensor:
        """Who refused so often that nothing moves any more (b)."""
        return self.value > self.largest

    def update(self, gain: Tensor, foretold: Tensor) -> Tensor:
        """Accept a step where it gained anything, and adapt the damping to how well the gain was foretold."""
        accepted = (gain > 0) & torch.isfinite(gain)
        rho = gain / foretold.clamp_min(1e-300)
        eased = self.value * (1.0 - (2.0 * rho - 1.0) ** 3).clamp(1.0 / 3.0, 2.0)
        self.value, self.growth = (
            torch.where(accepted, eased, self.value * self.growth),
            torch.where(accepted, 2.0, 2.0 * self.growth),
        )
        return accepted

    def keep(self, positions: Tensor) -> None:
        """Only those at ``positions`` go on."""
        self.value, self.growth, self.largest = (v[positions] for v in (self.value, self.growth, self.largest))
