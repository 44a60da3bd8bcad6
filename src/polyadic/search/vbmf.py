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
from polyadic.search.least_loss import least_loss_within, worthwhile_ranks
from polyadic.search.levels import PlanAt, conclude_level, expected_levels, propose_level
from polyadic.search.rank_candidates import RankCandidates
from polyadic.search.rank_search import RankSearch, SearchSpace, Trial, plan_of


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

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The weakening that meets the budget, or a bisection on it."""
        return propose_level(_family(space), space, trials, running)

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan of that weakening."""
        return conclude_level(_family(space), space, trials)

    def expected_trials(self, space: SearchSpace) -> int:
        """One under a budget."""
        return expected_levels(space)


def _family(space: SearchSpace) -> PlanAt:
    """Level 1/2 is the suggestion, 1 the dense layer, 0 nothing."""
    measure = space.measure
    layers = [
        (worthwhile_ranks(all_candidates), _suggested(all_candidates, measure), all_candidates[0].dense_cost(measure))
        for all_candidates in space.by_layer().values()
    ]

    def plan_at(level: float) -> Plan:
        beyond = 2.0 * level - 1.0
        return plan_of(
            [
                least_loss_within(
                    ranked, 2.0 * level * cost if beyond <= 0 else cost + beyond * (dense - cost), measure
                )
                for ranked, cost, dense in layers
            ]
        )

    return plan_at


def _suggested(all_candidates: Sequence[RankCandidates], measure: Measure) -> float:
    """What the suggestion costs: in the first format, or in the one that is fastest there."""
    positions = [
        (candidates, candidates.suggested if candidates.suggested is not None else len(candidates.ranks) // 2)
        for candidates in all_candidates
    ]
    if all(candidates.times for candidates in all_candidates):
        positions.sort(key=lambda candidate: candidate[0].times[candidate[1]])
    candidates, at = positions[0]
    return candidates.costs(measure)[at]
