"""Networks that exist on paper: each layer's loss is known at every rank, and losses add up, so the best plan is known.

Losses are quadratic in what is taken away of a layer: ``weight * (1 - share)^2`` with ``share`` of its MACs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from polyadic.schema import Budget, Cost, Plan
from polyadic.search import RankCandidates, RankSearch, SearchSpace, Trial, TrialStore
from polyadic.search.space import plan_of

WEIGHTS = (0.2, 5.0, 1.0, 0.05)
DENSE = (4000, 1000, 2000, 3000)  # MACs of the layers
TIMES = (1.0, 4.0, 2.0, 0.5)  # milliseconds


def toy(
    budget: Budget | None = None,
    allowed: float = 1.0,
    layers: int = 4,
    formats: int = 1,
    ranked: int = 5,
    timed: bool = False,
) -> SearchSpace:
    """Up to four layers; the second format is cheaper in parameters, dearer in MACs, and loses a little more.

    Where ranks are timed, the layers with the most MACs are not those that take the most time, and the second format
    is the faster one.
    """
    candidates = []
    for number in range(layers):
        dense = DENSE[number]
        for fmt in range(formats):
            macs = tuple(dense * step // (ranked + 1) + 10 * fmt for step in range(1, ranked + 1))
            params = tuple(cost // (10 + 10 * fmt) for cost in macs)
            errors = tuple(1.0 - cost / dense + 0.05 * fmt for cost in macs)
            ranks = tuple((rank,) for rank in range(1, ranked + 1))
            name = ("svd", "cp-epc")[fmt]
            times = tuple(TIMES[number] * (0.1 + (0.8 - 0.1 * fmt) * cost / dense) for cost in macs) if timed else ()
            bottom = RankCandidates(
                f"layer{number}", name, ranks, macs, dense, params, dense // 10, errors, ranked // 2
            )
            candidates.append(replace(bottom, times=times, dense_time=TIMES[number] if timed else 0.0))
    total = sum(DENSE[:layers])
    latency = sum(TIMES[:layers]) + 1.0 if timed else None
    return SearchSpace(tuple(candidates), 0.5, Cost(total // 10, total, 4 * (total // 10), latency), budget, allowed)


def divergence(space: SearchSpace, plan: Plan) -> float:
    """The sum over the layers of the plan."""
    total = 0.0
    for choice in plan.choices:
        candidates = space.candidates_for(choice)
        weight = WEIGHTS[int(choice.layer.removeprefix("layer"))]
        share = candidates.macs[candidates.position(choice)] / candidates.dense_macs
        total += weight * (1.0 - share) ** 2 + 0.01 * (choice.format == "cp-epc")
    return total


def trial_of(space: SearchSpace, plan: Plan, tuned: bool = False) -> Trial:
    """What the plan loses: as points of score, and as a loss."""
    return Trial(plan, divergence(space, plan), joint=not tuned, divergence=None if tuned else divergence(space, plan))


def every_plan(space: SearchSpace) -> list[Plan]:
    """All plans that there are, with layers left dense."""
    options = [
        [None, *((candidates, at) for candidates in formats for at in range(len(candidates.ranks)))]
        for formats in space.by_layer().values()
    ]
    chosen = itertools.product(*options)
    return [plan_of([option for option in options if option is not None]) for options in chosen]


def optimum(space: SearchSpace) -> float:
    """The least loss of all plans within the budget, by looking at every one."""
    return min(divergence(space, plan) for plan in every_plan(space) if space.admits(plan))


def searched(
    search: RankSearch, space: SearchSpace, trials: Sequence[Trial] = (), most: int = 10_000
) -> tuple[list[Trial], Plan]:
    """The whole history of a search by one worker, and its conclusion."""
    history = list(trials)
    while (plan := search.propose(space, history)) is not None:
        assert len(history) < most, "the search does not end"
        history.append(trial_of(space, plan, search.tunes_layers))
    return history, search.conclude(space, history)


def work(
    search: RankSearch,
    space: SearchSpace,
    store: TrialStore,
    seconds: float = 0.0,
    stall: Callable[[int], None] | None = None,
) -> None:
    """One worker of several, as the pipeline does it; ``stall`` hears in each trial how many it has done before."""
    done = 0

    def evaluate(plan: Plan) -> tuple[Trial, dict[str, float]]:
        nonlocal done
        if stall is not None:
            stall(done)
        time.sleep(seconds)
        done += 1
        return trial_of(space, plan, search.tunes_layers), {"seconds": seconds}

    while True:
        running = store.running
        plan = search.propose(space, store.trials, running)
        if plan is None and not running:
            return
        if not store.run_trial(plan, evaluate):
            time.sleep(0.1)
