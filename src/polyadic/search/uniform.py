"""The same share of its cost for every layer: of its multiply-accumulates, or of what is limited instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.least_harm import within, worthwhile
from polyadic.search.levels import PlanAt, admitted, concluded_level, expected_levels, next_level
from polyadic.search.rank_search import Problem, RankSearch, Trial, plan_of


@final
@dataclass(frozen=True)
class Uniform(RankSearch):
    """Every layer at one ratio: in the first of its formats, or in the fastest where an engine was asked."""

    @property
    def wants_few_ranks(self) -> bool:
        """No: one plan is all that is tried."""
        return False

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The ratio that meets the budget, or a bisection on the ratio."""
        return next_level(_family(problem), problem, trials, running)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan of that ratio."""
        return concluded_level(_family(problem), problem, trials)

    def expected_trials(self, problem: Problem) -> int:
        """One under a budget."""
        return expected_levels(problem)


def uniform_within(problem: Problem) -> Plan:
    """The dearest uniform plan within the budget; the cheapest plan of all if there is none."""
    return admitted(_family(problem), problem)


def uniform_plan(problem: Problem, share: float) -> Plan:
    """Every layer at ``share`` of its cost, or at its cheapest rank where that is dearer.

    Its format is the first one; where ranks are timed, see :mod:`polyadic.search.least_harm`.
    """
    return _family(problem)(share)


def _family(problem: Problem) -> PlanAt:
    measure = problem.measure
    layers = [(worthwhile(ladders), ladders[0].dense_cost(measure)) for ladders in problem.of_layer().values()]
    return lambda share: plan_of([within(rungs, share * dense, measure) for rungs, dense in layers])
