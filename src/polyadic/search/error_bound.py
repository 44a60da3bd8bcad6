"""One bound on the relative error for all layers: the largest error of a layer is made as small as the budget allows.

That is the allocation of ALDS (Liebenwein et al., NeurIPS 2021) with the relative error of each kernel in the place of
its bound. Where there are images, errors are those in the norm of each layer's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import conclude_level, dearest_within, expected_levels, propose_level
from polyadic.search.rank_search import RankSearch, SearchSpace, Trial, plan_of


@final
@dataclass(frozen=True)
class ErrorBound(RankSearch):
    """Each layer takes its cheapest format and rank within one bound on the relative error; others stay dense."""

    @property
    def name(self) -> str:
        """error-bound."""
        return "error-bound"

    @property
    def wants_errors(self) -> bool:
        """Yes."""
        return True

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The bound that meets the budget, or a bisection on the bound."""
        return propose_level(lambda level: _bounded_plan(space, 1.0 - level), space, trials, running)

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan of that bound."""
        return conclude_level(lambda level: _bounded_plan(space, 1.0 - level), space, trials)

    def expected_trials(self, space: SearchSpace) -> int:
        """One under a budget."""
        return expected_levels(space)


def error_bound_plan(space: SearchSpace) -> Plan:
    """The plan of the smallest bound that the budget admits; nothing is replaced where errors are not known."""
    if any(candidates.errors is None for candidates in space.all_candidates):
        return Plan()
    return dearest_within(lambda level: _bounded_plan(space, 1.0 - level), space)


def _bounded_plan(space: SearchSpace, bound: float) -> Plan:
    chosen = []
    for all_candidates in space.by_layer().values():
        within = [
            (candidates.costs(space.measure)[at], candidates, at)
            for candidates in all_candidates
            for at, error in enumerate(candidates.errors or ())
            if error <= bound
        ]
        if within:
            _, candidates, at = min(within, key=lambda option: option[0])
            chosen.append((candidates, at))
    return plan_of(chosen)
