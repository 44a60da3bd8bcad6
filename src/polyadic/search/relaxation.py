"""Give ranks back to every layer at once, when layers that are harmless alone do too much harm together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyadic.schema import Measure, Plan
from polyadic.search.ladder import Ladder


def relaxed(plan: Plan, ladders: Sequence[Ladder], share: float, measure: Measure = "macs") -> Plan:
    """``plan`` with each layer moved up its ladder by ``share`` (0 to 1) of its distance to the dense layer, in cost.

    A layer that is near dense already stays below it: ladders end there.
    """
    by_name = {(ladder.layer, ladder.format): ladder for ladder in ladders}
    choices = []
    for choice in plan.choices:
        ladder = by_name[choice.layer, choice.format]
        cost = ladder.costs(measure)[ladder.position(choice)]
        position = ladder.within(cost + share * (ladder.dense_cost(measure) - cost), measure)
        choices.append(replace(choice, rank=ladder.ranks[position]))
    return Plan(tuple(choices))
