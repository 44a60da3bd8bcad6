"""Which of a layer's formats a strategy takes that has tried none of them.

Where nothing was timed it is the first one: the user has put them in order. Where an engine was asked, a rank of any
format is worth taking if no other one is both less harmful and no slower. Harm is the error of the kernel where it is
known. Otherwise a chain that does more multiply-accumulates in the same time counts as less harmful; so of several
formats the fastest at a given number of them is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.schema import Measure
from polyadic.search.ladder import Ladder

Rung = tuple[Ladder, int]
"""A ladder and a position on it."""


def worthwhile(ladders: Sequence[Ladder]) -> list[Rung]:
    """The ranks of one layer that are worth taking, the most harmful first; where they are timed, the fastest first."""
    first = ladders[0]
    if not all(ladder.times for ladder in ladders):
        return [(first, at) for at in range(len(first.ranks))]
    known = all(ladder.errors is not None for ladder in ladders)

    def harm(rung: Rung) -> float:
        ladder, at = rung
        return ladder.errors[at] if known and ladder.errors is not None else -ladder.macs[at]

    def milliseconds(rung: Rung) -> float:
        return rung[0].times[rung[1]]

    every = [(ladder, at) for ladder in ladders for at in range(len(ladder.ranks))]
    kept: list[Rung] = []
    for rung in sorted(every, key=lambda rung: (harm(rung), milliseconds(rung))):
        if not kept or milliseconds(rung) < milliseconds(kept[-1]):
            kept.append(rung)
    return kept[::-1]


def within(rungs: Sequence[Rung], most: float, measure: Measure) -> Rung:
    """The least harmful of :func:`worthwhile` that costs at most ``most``; the cheapest one where none does.

    What it costs never falls as ``most`` rises: a rung that is preferred to another and was not within before costs
    more than that did.
    """
    costs = [ladder.costs(measure)[at] for ladder, at in rungs]
    fitting = [rung for rung, cost in zip(rungs, costs, strict=True) if cost <= most]
    return fitting[-1] if fitting else rungs[costs.index(min(costs))]
