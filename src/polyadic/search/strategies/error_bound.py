"""One bound on the relative error for all layers: the largest error of a layer is made as small as the budget allows.

That is the allocation of ALDS (Liebenwein et al., NeurIPS 2021) with the relative error of each kernel in the place of
its bound. Where there are images, errors are those in the norm of each layer's inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import LevelSearch, PlanAt, dearest_within
from polyadic.search.space import SearchSpace, plan_of


@final
@dataclass(frozen=True)
class ErrorBound(LevelSearch):
    """Each layer takes its cheapest format and rank within one bound on the relative error; others stay dense."""

    name = "error-bound"
    wants_errors = True

    def family(self, space: SearchSpace) -> PlanAt:
        """The bound is 1 minus the level."""
        return lambda level: _bounded_plan(space, 1.0 - level)


def error_bound_plan(space: SearchSpace) -> Plan:
    """The plan of the smallest bound that the budget admits; nothing is replaced where errors are not known."""
    if any(candidates.errors is None for candidates in space.candidates):
        return Plan()
    return dearest_within(ErrorBound().family(space), space)


def _bounded_plan(space: SearchSpace, bound: float) -> Plan:
    chosen = []
    for formats in space.by_layer().values():
        within = [
            (candidates.costs(space.measure)[at], candidates, at)
            for candidates in formats
            for at, error in enumerate(candidates.errors or ())
            if error <= bound
        ]
        if within:
            _, candidates, at = min(within, key=lambda option: option[0])
            chosen.append((candidates, at))
    return plan_of(chosen)
