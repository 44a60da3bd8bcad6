"""Which of a layer's formats a strategy takes that has tried none of them.

Where nothing was timed it is the first one: the user has put them in order. Where an engine was asked, a rank of any
format is worth taking if no other one is both less harmful and no slower. Harm is the error of the kernel where it is
known. Otherwise a chain that does more multiply-accumulates in the same time counts as less harmful; so of several
formats the fastest at a given number of them is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.schema import Measure
from polyadic.search.rank_candidates import RankCandidates

Candidate = tuple[RankCandidates, int]
"""A ladder and a position on it."""


def worthwhile_ranks(all_candidates: Sequence[RankCandidates]) -> list[Candidate]:
    """The ranks of one layer that are worth taking, the most harmful first; where they are timed, the fastest first."""
    first = all_candidates[0]
    if not all(candidates.times for candidates in all_candidates):
        return [(first, at) for at in range(len(first.ranks))]
    known = all(candidates.errors is not None for candidates in all_candidates)

    def loss(candidate: Candidate) -> float:
        candidates, at = candidate
        return candidates.errors[at] if known and candidates.errors is not None else -candidates.macs[at]

    def milliseconds(candidate: Candidate) -> float:
        return candidate[0].times[candidate[1]]

    every = [(candidates, at) for candidates in all_candidates for at in range(len(candidates.ranks))]
    kept: list[Candidate] = []
    for candidate in sorted(every, key=lambda candidate: (loss(candidate), milliseconds(candidate))):
        if not kept or milliseconds(candidate) < milliseconds(kept[-1]):
            kept.append(candidate)
    return kept[::-1]


def least_loss_within(ranked: Sequence[Candidate], most: float, measure: Measure) -> Candidate:
    """The least harmful of :func:`worthwhile_ranks` that costs at most ``most``; the cheapest one where none does.

    What it costs never falls as ``most`` rises: a rung that is preferred to another and was not within before costs
    more than that did.
    """
    costs = [candidates.costs(measure)[at] for candidates, at in ranked]
    fitting = [candidate for candidate, cost in zip(ranked, costs, strict=True) if cost <= most]
    return fitting[-1] if fitting else ranked[costs.index(min(costs))]
