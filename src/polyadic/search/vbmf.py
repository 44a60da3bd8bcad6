"""Ranks by empirical variational Bayes, weakened (Kim et al., ICLR 2016; Gusak et al., *MUSCO*, ICCV-W 2019).

EVBMF suggests a rank for each kernel from its singular values alone. Taken at once, these ranks cut deep. So each layer
goes a share of the way from dense to the suggestion, the same share for all: that share is the weakening factor.
Where a network is factorised in rounds, every round asks EVBMF anew, of the cores of the kernels as they are by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Measure, Plan
from polyadic.search.ladder import Ladder
from polyadic.search.least_harm import within, worthwhile
from polyadic.search.levels import PlanAt, concluded_level, expected_levels, next_level
from polyadic.search.rank_search import Problem, RankSearch, Trial, plan_of


@final
@dataclass(frozen=True)
class VBMF(RankSearch):
    """Every layer on its way to the suggestion; beyond the suggestions (a tight budget) all shrink in proportion.

    Formats are chosen as in :class:`polyadic.search.Uniform`.
    """

    @property
    def wants_few_ranks(self) -> bool:
        """No: one plan is all that is tried."""
        return False

    @property
    def wants_suggestions(self) -> bool:
        """Yes."""
        return True

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The weakening that meets the budget, or a bisection on it."""
        return next_level(_family(problem), problem, trials, running)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan of that weakening."""
        return concluded_level(_family(problem), problem, trials)

    def expected_trials(self, problem: Problem) -> int:
        """One under a budget."""
        return expected_levels(problem)


def _family(problem: Problem) -> PlanAt:
    """Level 1/2 is the suggestion, 1 the dense layer, 0 nothing."""
    measure = problem.measure
    layers = [
        (worthwhile(ladders), _suggested(ladders, measure), ladders[0].dense_cost(measure))
        for ladders in problem.of_layer().values()
    ]

    def plan_at(level: float) -> Plan:
        beyond = 2.0 * level - 1.0
        return plan_of(
            [
                within(rungs, 2.0 * level * cost if beyond <= 0 else cost + beyond * (dense - cost), measure)
                for rungs, cost, dense in layers
            ]
        )

    return plan_at


def _suggested(ladders: Sequence[Ladder], measure: Measure) -> float:
    """What the suggestion costs: in the first format, or in the one that is fastest there."""
    positions = [
        (ladder, ladder.suggested if ladder.suggested is not None else len(ladder.ranks) // 2) for ladder in ladders
    ]
    if all(ladder.times for ladder in ladders):
        positions.sort(key=lambda rung: rung[0].times[rung[1]])
    ladder, at = positions[0]
    return ladder.costs(measure)[at]
