"""The same share of its cost for every layer: of its multiply-accumulates, or of what is limited instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.levels import LevelSearch, PlanAt, dearest_within, least_loss_within, worthwhile_ranks
from polyadic.search.space import SearchSpace, plan_of


@final
@dataclass(frozen=True)
class Uniform(LevelSearch):
    """Every layer at one ratio: in the first of its formats, or in the fastest where an engine was asked."""

    name = "uniform"
    wants_few_ranks = False  # one plan is all that is tried

    def family(self, space: SearchSpace) -> PlanAt:
        """Each layer at a share of its cost, or at its cheapest rank where that is dearer."""
        measure = space.measure
        layers = [(worthwhile_ranks(formats), formats[0].dense_cost(measure)) for formats in space.by_layer().values()]
        return lambda share: plan_of(least_loss_within(ranks, share * dense, measure) for ranks, dense in layers)


def uniform_within(space: SearchSpace) -> Plan:
    """The dearest uniform plan within the budget; the cheapest plan of all if there is none."""
    return dearest_within(Uniform().family(space), space)
