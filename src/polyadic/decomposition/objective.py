"""The three measures of how a CP decomposition stands small changes, any of which a correction may lower."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block, weight_of


class Objective(Enum):
    """What is kept small.

    With A the factor in question and B, C the others, each is ``sum_r w_r^2 ||a_r||^2`` plus what A does not touch:

        SENSITIVITY   sum_r (I b^2 c^2 + J a^2 c^2 + L a^2 b^2)    w_r^2 = J c_r^2 + L b_r^2     Tichavsky et al. 2019
        LEMMA         sum_r (b^2 c^2 + a^2 c^2 + a^2 b^2)          w_r^2 = c_r^2 + b_r^2         Phan et al. 2020, eq. 5
        INTENSITY     sum_r a^2 b^2 c^2                            w_r^2 = b_r^2 c_r^2           Phan et al. 2019

    Once columns are rescaled, the first two differ by a constant factor and have the same iterates.
    """

    SENSITIVITY = "sensitivity"
    LEMMA = "lemma"
    INTENSITY = "intensity"

    def of(self, cp: CPTensor) -> Tensor:
        """Its value, one for each of the batch."""
        if self is Objective.INTENSITY:
            return cp.sum_squared_intensity()
        return cp.sensitivity_lemma() if self is Objective.LEMMA else cp.sensitivity()

    def weight(self, block: Block) -> Tensor:
        """``w^2`` (b x R)."""
        if self is Objective.INTENSITY:
            return block.norms.prod(-2)
        sizes = [1] * len(block.sizes) if self is Objective.LEMMA else block.sizes
        return weight_of(block.norms, sizes)

    def untouched(self, block: Block) -> Tensor:
        """The part that the factor of ``block`` does not move (b)."""
        if self is Objective.INTENSITY:
            return torch.zeros_like(block.norms[:, 0, 0])
        size = 1 if self is Objective.LEMMA else int(block.factor.shape[-2])
        return size * block.norms.prod(-2).sum(-1)

    def balanced(self, cp: CPTensor) -> CPTensor:
        """The same tensor with the column norms at which this objective is least."""
        return cp.rescaled(equal=self is Objective.LEMMA)
