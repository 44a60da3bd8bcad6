"""One bound on the relative error for all layers: the largest error of a layer is made as small as the budget allows.

That is the allocation of ALDS (Liebenwein et al., NeurIPS 2021) with the relative error of each kernel in the place of
its bound. Where there are images, errors are those in the norm of each layer's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import admitted, concluded_level, expected_levels, next_level
from polyadic.search.rank_search import Problem, RankSearch, Trial, plan_of


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

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The bound that meets the budget, or a bisection on the bound."""
        return next_level(lambda level: _bounded_plan(problem, 1.0 - level), problem, trials, running)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan of that bound."""
        return concluded_level(lambda level: _bounded_plan(problem, 1.0 - level), problem, trials)

    def expected_trials(self, problem: Problem) -> int:
        """One under a budget."""
        return expected_levels(problem)


def bounded_within(problem: Problem) -> Plan:
    """The plan of the smallest bound that the budget admits; nothing is replaced where errors are not known."""
    if any(ladder.errors is None for ladder in problem.ladders):
        return Plan()
    return admitted(lambda level: _bounded_plan(problem, 1.0 - level), problem)


def _bounded_plan(problem: Problem, bound: float) -> Plan:
    chosen = []
    for ladders in problem.of_layer().values():
        within = [
            (ladder.costs(problem.measure)[at], ladder, at)
            for ladder in ladders
            for at, error in enumerate(ladder.errors or ())
            if error <= bound
        ]
        if within:
            _, ladder, at = min(within, key=lambda option: option[0])
            chosen.append((ladder, at))
    return plan_of(chosen)
