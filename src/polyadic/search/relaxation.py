"""Give ranks back to every layer at once, when layers that are harmless alone do too much harm together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyadic.schema import Plan
from polyadic.search.rank_search import Ladder


def relaxed(plan: Plan, ladders: Sequence[Ladder], share: float) -> Plan:
    """``plan`` with each layer moved up its ladder by ``share`` (0 to 1) of its distance to the dense layer, in MACs.

    A layer that is near dense already stays below it: ladders end there.
    """
    by_name = {(ladder.layer, ladder.format): ladder for ladder in ladders}
    choices = []
    for choice in plan.choices:
        ladder = by_name[choice.layer, choice.format]
        macs = ladder.macs[ladder.ranks.index(choice.rank)]
        target = macs + share * (ladder.dense_macs - macs)
        position = max(at for at, cost in enumerate(ladder.macs) if cost <= target)
        choices.append(replace(choice, rank=ladder.ranks[position]))
    return Plan(tuple(choices))
