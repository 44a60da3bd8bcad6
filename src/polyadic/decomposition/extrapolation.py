"""Extrapolated sweeps with restarts (Ang, Cohen and Gillis, Numerical Algorithms 2019, for ALS), for batches.

Every sweep starts from ``x + beta (x - x_before)``. Where that raised the objective, a plain sweep from x takes its
place and beta is halved; otherwise beta grows a little, up to a ceiling that a failure lowers. So the objective never
rises, and sweeps through a long flat valley become about ten times fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors

Sweep: TypeAlias = Callable[[UnitTensors, CPTensor, Tensor], tuple[CPTensor, Tensor, Tensor]]
"""From tensors, factors and their positions in the batch to new factors, squared errors and objectives (b)."""


@dataclass
class Extrapolated:
    """Where the members of a batch are; all but the factors are vectors over the batch."""

    cp: CPTensor
    previous: CPTensor
    error: Tensor
    objective: Tensor
    beta: Tensor
    ceiling: Tensor

    @staticmethod
    def at(cp: CPTensor, like: Tensor) -> Extrapolated:
        """The beginning, ``like`` being any vector over the batch; nothing is known of the objective yet."""
        ones = torch.ones_like(like)
        return Extrapolated(cp, cp, ones, torch.inf * ones, 0.5 * ones, ones)

    def step(self, unit: UnitTensors, sweep: Sweep) -> Tensor:
        """One sweep of each; returns by how much the objectives fell."""
        everyone = torch.arange(len(unit), device=self.beta.device)
        cp, error, value = sweep(unit, self._ahead(), everyone)
        worse = ~(value <= self.objective)
        if bool(worse.any()):
            w = everyone[worse]
            plain, error_w, value_w = sweep(unit[w] if len(w) < len(unit) else unit, self.cp[w], w)
            cp = CPTensor(tuple(U.index_copy(0, w, V) for U, V in zip(cp.factors, plain.factors, strict=True)))
            error, value = error.index_copy(0, w, error_w), value.index_copy(0, w, value_w)
        self.ceiling, self.beta = (
            torch.where(worse, self.beta, (1.02 * self.ceiling).clamp_max(1.0)),
            torch.where(worse, 0.5 * self.beta, torch.minimum(1.05 * self.beta, self.ceiling)),
        )
        gain = self.objective - value
        self.previous, self.cp, self.error, self.objective = self.cp, cp, error, value
        return gain

    def restart(self, where: Tensor, objective: Tensor) -> None:
        """Go on from the present factors with another objective, whose value is given, for those ``where``."""
        self.objective = torch.where(where, objective, self.objective)
        self.beta = torch.where(where, 0.5, self.beta)
        self.ceiling = torch.where(where, 1.0, self.ceiling)
        pairs = zip(self.cp.factors, self.previous.factors, strict=True)
        self.previous = CPTensor(tuple(torch.where(where[:, None, None], U, V) for U, V in pairs))

    def keep(self, positions: Tensor) -> None:
        """Only those at ``positions`` go on."""
        for name, value in vars(self).items():
            setattr(self, name, value[positions])

    def _ahead(self) -> CPTensor:
        steps = 1.0 + self.beta[:, None, None].to(self.cp.factors[0])
        pairs = zip(self.cp.factors, self.previous.factors, strict=True)
        return CPTensor(tuple(torch.lerp(V, U, steps) for U, V in pairs))
