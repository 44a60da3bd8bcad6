"""The same share of its cost for every layer: of its multiply-accumulates, or of what is limited instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.least_loss import least_loss_within, worthwhile_ranks
from polyadic.search.levels import PlanAt, conclude_level, dearest_within, expected_levels, propose_level
from polyadic.search.rank_search import RankSearch, SearchSpace, Trial, plan_of


@final
@dataclass(frozen=True)
class Uniform(RankSearch):
    """Every layer at one ratio: in the first of its formats, or in the fastest where an engine was asked."""

    @property
    def wants_few_ranks(self) -> bool:
        """No: one plan is all that is tried."""
        return False

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The ratio that meets the budget, or a bisection on the ratio."""
        return propose_level(_family(space), space, trials, running)

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan of that ratio."""
        return conclude_level(_family(space), space, trials)

    def expected_trials(self, space: SearchSpace) -> int:
        """One under a budget."""
        return expected_levels(space)


def uniform_within(space: SearchSpace) -> Plan:
    """The dearest uniform plan within the budget; the cheapest plan of all if there is none."""
    return dearest_within(_family(space), space)


def uniform_plan(space: SearchSpace, share: float) -> Plan:
    """Every layer at ``share`` of its cost, or at its cheapest rank where that is dearer.

    Its format is the first one; where ranks are timed, see :mod:`polyadic.search.least_loss`.
    """
    return _family(space)(share)


def _family(space: SearchSpace) -> PlanAt:
    measure = space.measure
    layers = [
        (worthwhile_ranks(all_candidates), all_candidates[0].dense_cost(measure))
        for all_candidates in space.by_layer().values()
    ]
    return lambda share: plan_of([least_loss_within(ranked, share * dense, measure) for ranked, dense in layers])
