"""Give ranks back to every layer at once, when layers that are harmless alone do too much harm together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyadic.schema import Measure, Plan
from polyadic.search.rank_candidates import RankCandidates


def relax_plan(plan: Plan, all_candidates: Sequence[RankCandidates], share: float, measure: Measure = "macs") -> Plan:
    """``plan`` with each layer moved up its ladder by ``share`` (0 to 1) of its distance to the dense layer, in cost.

    A layer that is near dense already stays below it: ladders end there.
    """
    by_name = {(candidates.layer, candidates.format): candidates for candidates in all_candidates}
    choices = []
    for choice in plan.choices:
        candidates = by_name[choice.layer, choice.format]
        cost = candidates.costs(measure)[candidates.position(choice)]
        position = candidates.within(cost + share * (candidates.dense_cost(measure) - cost), measure)
        choices.append(replace(choice, rank=candidates.ranks[position]))
    return Plan(tuple(choices))
