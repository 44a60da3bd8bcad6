"""Ranks by empirical variational Bayes, weakened (Kim et al., ICLR 2016; Gusak et al., *MUSCO*, ICCV-W 2019).

EVBMF suggests a rank for each kernel from its singular values alone. Taken at once, these ranks cut deep. So each layer
goes a share of the way from dense to the suggestion, the same share for all: that share is the weakening factor.
Where a network is factorised in rounds, every round asks EVBMF anew, of the cores of the kernels as they are by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import concluded_level, expected_levels, next_level
from polyadic.search.rank_search import Problem, RankSearch, Trial, plan_of


@final
@dataclass(frozen=True)
class VBMF(RankSearch):
    """Every layer in the first of its formats; beyond the suggestions (a tight budget) all shrink in proportion."""

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
        return next_level(lambda level: _weakened_plan(problem, level), problem, trials, running)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan of that weakening."""
        return concluded_level(lambda level: _weakened_plan(problem, level), problem, trials)

    def expected_trials(self, problem: Problem) -> int:
        """One under a budget."""
        return expected_levels(problem)


def _weakened_plan(problem: Problem, level: float) -> Plan:
    """Level 1/2 is the suggestion, 1 the dense layer, 0 nothing."""
    chosen = []
    for first, *_ in problem.of_layer().values():
        costs, dense = first.costs(problem.measure), first.dense_cost(problem.measure)
        suggested = costs[first.suggested if first.suggested is not None else len(costs) // 2]
        beyond = 2.0 * level - 1.0
        target = 2.0 * level * suggested if beyond <= 0 else suggested + beyond * (dense - suggested)
        chosen.append((first, first.within(target, problem.measure)))
    return plan_of(chosen)
