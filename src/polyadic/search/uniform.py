"""The same share of its cost for every layer: of its multiply-accumulates, or of what is limited instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import admitted, concluded_level, expected_levels, next_level
from polyadic.search.rank_search import Problem, RankSearch, Trial, plan_of


@final
@dataclass(frozen=True)
class Uniform(RankSearch):
    """Every layer in the first of its formats, at one ratio."""

    @property
    def wants_few_ranks(self) -> bool:
        """No: one plan is all that is tried."""
        return False

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The ratio that meets the budget, or a bisection on the ratio."""
        return next_level(lambda share: uniform_plan(problem, share), problem, trials, running)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan of that ratio."""
        return concluded_level(lambda share: uniform_plan(problem, share), problem, trials)

    def expected_trials(self, problem: Problem) -> int:
        """One under a budget."""
        return expected_levels(problem)


def uniform_within(problem: Problem) -> Plan:
    """The dearest uniform plan within the budget; the cheapest plan of all if there is none."""
    return admitted(lambda share: uniform_plan(problem, share), problem)


def uniform_plan(problem: Problem, share: float) -> Plan:
    """Every layer at ``share`` of its cost (its cheapest rank where that is dearer), in the first of its formats."""
    first, measure = [ladders[0] for ladders in problem.of_layer().values()], problem.measure
    return plan_of([(ladder, ladder.within(share * ladder.dense_cost(measure), measure)) for ladder in first])
