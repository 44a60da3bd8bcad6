"""Invented spaces for a search, and an invented world that answers it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from polyadic.schema import Choice, Plan
from polyadic.search import Bisection, RankCandidates, SearchSpace, Trial

THRESHOLD = 1.0
Drop = Callable[[Choice], float]


def candidates(layer: str, fmt: str, macs: list[int], dense: int) -> RankCandidates:
    """Ranks 1, 2, ... at the given costs."""
    return RankCandidates(layer, fmt, tuple((rank,) for rank in range(1, len(macs) + 1)), tuple(macs), dense)


@st.composite
def spaces(draw: st.DrawFn, formats: int = 3) -> SearchSpace:
    """One to four layers in one to ``formats`` formats each, at any costs below the dense layer's."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        dense = draw(st.integers(30, 5000))
        costs = st.lists(st.integers(1, dense - 1), min_size=1, max_size=60, unique=True).map(sorted)
        for name in ("cp", "tucker", "svd")[: draw(st.integers(1, formats))]:
            found.append(candidates(f"layer{number}", name, draw(costs), dense))
    return SearchSpace(tuple(found), THRESHOLD)


@dataclass(frozen=True)
class World:
    """Two drops for each plan, before and after fine-tuning, that depend on the seed alone."""

    seed: int
    monotone: bool

    def drops(self, choice: Choice) -> tuple[float, float]:
        """Between 0 and 2 after fine-tuning; before it no less."""
        key = f"{self.seed}/{choice.layer}/{choice.format}"
        if self.monotone:  # falls as the rank grows, at a pace of the layer and format
            after = 2.0 * random.Random(key).random() ** 2 * 30 / choice.rank[0]
            return after * (1 + random.Random(key + "before").random()), after
        after = 2.0 * random.Random(f"{key}/{choice.rank}").random()
        return after + random.Random(f"{key}/{choice.rank}/before").random(), after

    def trial(self, plan: Plan, threshold: float) -> Trial:
        """As the pipeline does it: fine-tuning only where it can change the verdict."""
        (choice,) = plan.choices
        before, after = self.drops(choice)
        return Trial(plan, before, final=False) if before <= threshold else Trial(plan, after)

    def passes(self, choice: Choice, threshold: float = THRESHOLD) -> bool:
        """Whether the plan stays within the threshold."""
        return self.drops(choice)[1] <= threshold


WORLDS = st.builds(World, st.integers(0, 10_000), st.booleans())
MONOTONE = st.builds(World, st.integers(0, 10_000), st.just(True))


def searched(
    search: Bisection, space: SearchSpace, world: World, trials: list[Trial] | None = None
) -> tuple[list[Trial], Plan]:
    """The whole history of a search, and its conclusion."""
    trials = list(trials or [])
    most = sum(len(candidates.ranks) for candidates in space.candidates) * 3
    while (plan := search.propose(space, trials)) is not None:
        assert len(trials) <= most, "the search does not end"
        trials.append(world.trial(plan, space.threshold))
    return trials, search.conclude(space, trials)


def cheapest(space: SearchSpace, world: World, layer: str) -> int | None:
    """The cost of the cheapest rank of a layer that passes, in whichever format."""
    costs = [
        macs
        for candidates in space.candidates
        if candidates.layer == layer
        for rank, macs in zip(candidates.ranks, candidates.macs, strict=True)
        if world.passes(Choice(layer, candidates.format, rank), space.threshold)
    ]
    return min(costs, default=None)


def cost_of(space: SearchSpace, choice: Choice) -> int:
    """What a choice costs."""
    (candidates,) = [one for one in space.candidates if (one.layer, one.format) == (choice.layer, choice.format)]
    return candidates.macs[candidates.ranks.index(choice.rank)]
