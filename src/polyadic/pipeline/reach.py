"""From what was asked to a plan that is within reach of fine-tuning."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from polyadic.errors import BudgetError
from polyadic.pipeline.all_candidates import prepared
from polyadic.pipeline.search_loop import COMPLETE, searched
from polyadic.pipeline.space import Request
from polyadic.pipeline.speed import Conclude, LatencyResult
from polyadic.pipeline.whole_plans import Prover
from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Choice, Plan, Rank
from polyadic.search import SearchSpace, Trial, TrialStore, relax_plan

STEPS = 16  # of the relaxation


@dataclass(frozen=True)
class Reached:
    """The end of a search.

    Attributes:
        problem: what was solved, with all ranks of the ladders.
        plan: its plan.
        stop: why the search ended.
        again: what it would have concluded, from the same trials, for a problem with another budget; None where its
            plan is carried out as it is.
        speed: of the plan on the engine, where one was named.
    """

    space: SearchSpace
    plan: Plan
    stop: str
    again: Conclude | None = None
    speed: LatencyResult | None = None

    def timed(self, speed: LatencyResult) -> Reached:
        """The same end with the plan that has proven fast enough."""
        return replace(self, plan=speed.plan, speed=speed)


def run_search(prover: Prover, space: SearchSpace, journal: TrialStore, request: Request) -> Reached:
    """Search as asked; ``problem`` holds all ranks, and what may be lost.

    Raises:
        BudgetError: no plan keeps the drop.
    """
    workshop, search = prover.workshop, request.search
    if search.tunes_layers:
        return _within_drop(prover, space, journal, request)
    all_candidates = prepared(
        search, space.all_candidates, workshop.kernels, workshop.options.candidates_per_layer, workshop.show
    )
    found = searched(prover, search, replace(space, all_candidates=all_candidates), journal)
    if not found.plan.choices:
        raise BudgetError(
            f"no plan lost at most {space.allowed:g} points on the held-out images before fine-tuning "
            f"({len(journal.trials)} trials; {found.stop}): allow a larger drop, more trials, or other formats"
        )

    def again(other: SearchSpace) -> Plan:
        return fill_budget(other, search.conclude(replace(other, all_candidates=all_candidates), journal.trials))

    return Reached(space, fill_budget(space, found.plan), found.stop, again)


def fill_budget(space: SearchSpace, plan: Plan) -> Plan:
    """``plan`` with all layers moved up their ladders alike, then one by one, as far as the budget admits.

    A search works on a few ranks of each ladder; this uses what lies between them. One by one means: the layers that
    have lost most go up first, and those at their highest rank become dense where there is room. Without a budget the
    plan stays.
    """
    if space.budget is None or not space.admits(plan):
        return plan
    low, high = 0.0, 1.0
    for _ in range(30):  # halvings: below the step from one rank to the next
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if space.admits(relax_plan(plan, space.all_candidates, middle, space.measure))
            else (low, middle)
        )
    plan = relax_plan(plan, space.all_candidates, low, space.measure)
    nearest_last = sorted(plan.choices, key=lambda choice: _share(space, choice))
    for choice in nearest_last:
        candidates = space.candidates(choice)
        for rank in candidates.ranks[candidates.position(choice) + 1 :]:
            higher = _with_rank(plan, choice.layer, rank)
            if not space.admits(higher):
                break
            plan = higher
    for choice in reversed(nearest_last):
        without = _with_rank(plan, choice.layer, None)
        if plan.of(choice.layer) == replace(choice, rank=space.candidates(choice).ranks[-1]) and space.admits(without):
            plan = without
    return plan


def _share(space: SearchSpace, choice: Choice) -> float:
    candidates = space.candidates(choice)
    return candidates.costs(space.measure)[candidates.position(choice)] / (candidates.dense_cost(space.measure) or 1)


def _with_rank(plan: Plan, layer: str, rank: Rank | None) -> Plan:
    """``plan`` with another rank for one layer; None leaves it dense."""
    changed = (replace(choice, rank=rank) if choice.layer == layer and rank else choice for choice in plan.choices)
    return Plan(tuple(choice for choice in changed if rank is not None or choice.layer != layer))


def _within_drop(prover: Prover, space: SearchSpace, journal: TrialStore, request: Request) -> Reached:
    """Search, then give ranks back to all layers until fine-tuning can win back what the whole network loses.

    Losses of single layers add up, so ranks that suit each layer alone may ruin the whole. The smallest share of ranks
    that has to be given back is found by bisection. A threshold that the user gave is taken at its word.

    Raises:
        BudgetError: no layer passes, or the network is out of reach whatever is given back.
    """
    workshop = prover.workshop
    options, allowed, drop = workshop.options, space.allowed, request.max_drop
    most = drop.points(workshop.dense_score) if drop is not None else 0.0
    share = min(most, allowed / len(space.by_layer()))
    space = replace(space, threshold=options.eps if options.eps is not None else share)
    found = searched(prover, request.search, space, journal)
    if not found.plan.choices:
        ended = "" if found.stop == COMPLETE else f"; {found.stop}"
        raise BudgetError(
            f"no layer can be made cheaper with at most {space.threshold:g} points lost on the held-out images "
            f"(tried: {len(space.all_candidates)} pairs of layer and format{ended}): allow a larger drop, or other formats"
        )
    plan = found.plan
    if options.eps is None:
        lost = joint_drop(workshop, plan, journal)
        plan = plan if lost <= allowed else _given_back(workshop, plan, space, journal, lost)
    return Reached(space, plan, found.stop, again=lambda _: plan)


def joint_drop(workshop: Workshop, plan: Plan, journal: TrialStore) -> float:
    """Points that the network loses when all of ``plan`` is carried out, untuned; from the log if known."""
    known = [trial.drop for trial in journal.trials if trial.joint and trial.plan == plan]
    if known:
        return known[-1]
    began = time.monotonic()
    network, kernels = workshop.carry_out(plan)
    drop = workshop.drop(network)
    macs = sum(workshop.sites[name].chain_macs(kernel.stages) for name, kernel in kernels.items())
    journal.add(Trial(plan, drop, joint=True), {"macs": macs, "seconds": round(time.monotonic() - began, 3)})
    return drop


def _given_back(workshop: Workshop, tightest: Plan, space: SearchSpace, journal: TrialStore, lost: float) -> Plan:
    """The cheapest relaxation, in sixteenths, of ``tightest`` (which loses ``lost``) that loses what is allowed."""
    allowed = space.allowed
    # the drop falls about as exp(-6 share): begin there, double while it fails, bisect once it has passed
    guess = STEPS * math.log(lost / allowed) / 6.0 if allowed > 0 else STEPS / 2
    fails, passes, step = 0, STEPS + 1, min(max(round(guess), 1), STEPS)
    best, least = tightest, lost
    while passes - fails > 1:
        plan = relax_plan(tightest, space.all_candidates, step / STEPS, space.measure)
        lost = joint_drop(workshop, plan, journal)
        least = min(least, lost)
        if lost <= allowed:
            passes, best = step, plan
        else:
            fails = step
        step = min(2 * fails, STEPS) if passes > STEPS else (fails + passes) // 2
        if fails == STEPS:
            raise BudgetError(
                f"before fine-tuning the whole network may lose {allowed:g} points on the held-out images; it loses "
                f"{least:.2f} even at the highest ranks: allow a larger drop, exclude layers, or give eps yourself"
            )
    return best
