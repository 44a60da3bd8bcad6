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
from polyadic.search.levels import LevelSearch, PlanAt, least_loss_within, worthwhile_ranks
from polyadic.search.space import RankCandidates, SearchSpace, plan_of


@final
@dataclass(frozen=True)
class VBMF(LevelSearch):
    """Every layer on its way to the suggestion; beyond the suggestions (a tight budget) all shrink in proportion.

    Formats are chosen as in :class:`polyadic.search.Uniform`.
    """

    name = "vbmf"
    wants_few_ranks = False  # one plan is all that is tried
    wants_suggestions = True

    def family(self, space: SearchSpace) -> PlanAt:
        """Level 1/2 is the suggestion, 1 the dense layer, 0 nothing."""
        measure = space.measure
        layers = [
            (worthwhile_ranks(formats), _suggested(formats, measure), formats[0].dense_cost(measure))
            for formats in space.by_layer().values()
        ]

        def plan_at(level: float) -> Plan:
            beyond = 2.0 * level - 1.0
            return plan_of(
                least_loss_within(ranks, 2.0 * level * cost if beyond <= 0 else cost + beyond * (dense - cost), measure)
                for ranks, cost, dense in layers
            )

        return plan_at


def _suggested(formats: Sequence[RankCandidates], measure: Measure) -> float:
    """What the suggestion costs: in the first format, or in the one that is fastest there."""
    positions = [
        (candidates, candidates.suggested if candidates.suggested is not None else len(candidates.ranks) // 2)
        for candidates in formats
    ]
    if all(candidates.times for candidates in formats):
        positions.sort(key=lambda candidate: candidate[0].times[candidate[1]])
    candidates, at = positions[0]
    return candidates.costs(measure)[at]
