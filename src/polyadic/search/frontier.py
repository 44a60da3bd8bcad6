"""Allocation along the measured frontier of every layer, corrected by a few trials of whole networks.

1. Each layer's loss along its ranks, in each format, is measured once, with all other layers dense
   (:mod:`polyadic.search.loss_table`).
2. The budget is divided by Lagrange multipliers (:mod:`polyadic.search.allocation`), for several powers of the losses:
   where layers hurt each other, sums of single losses are no longer right, and which power is, the trials of the whole
   network tell.
3. Around the best of these plans every layer is moved one rank up, in the compressed network. That gives what a rank is
   worth there rather than in the dense network. Ranks then go from where they are worth least to where they are worth
   most, in exchanges of growing size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from polyadic.schema import Choice, Plan
from polyadic.search.allocation import allocated
from polyadic.search.loss_table import Option, is_complete, missing_probe, options_of, probes
from polyadic.search.rank_search import Problem, RankSearch, Trial, cheapest_kept
from polyadic.search.uniform import uniform_within

_HALVINGS = 6  # of the budget, where a drop is given


@final
@dataclass(frozen=True)
class Frontier(RankSearch):
    """Ours; see the module.

    Attributes:
        powers: of the losses, tried one after the other.
        exchanges: how many exchanges are tried after the powers; 0 leaves step 3 out.
    """

    powers: tuple[float, ...] = (1.0, 0.5, 2.0, 0.25)
    exchanges: int = 8

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next row of the table, then whole plans."""
        if problem.budget is not None and problem.admits(Plan()):
            return None
        probe = missing_probe(problem, trials, running)
        if probe is not None or not is_complete(problem, trials):
            return probe
        tried = {trial.plan for trial in trials if trial.joint} | set(running)
        return next((plan for plan in self._candidates(problem, trials) if plan not in tried), None)

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The least harmful plan within the budget, or the cheapest one that kept the drop."""
        if problem.budget is None:
            return cheapest_kept(problem, trials)
        if problem.admits(Plan()):
            return Plan()
        within = [trial for trial in trials if trial.joint and problem.admits(trial.plan)]
        if within:
            return min(within, key=lambda trial: trial.harm).plan
        return (
            allocated(problem, options_of(problem, trials)) if is_complete(problem, trials) else uniform_within(problem)
        )

    def expected_trials(self, problem: Problem) -> int:
        """The table, the powers, one step up of every layer, the exchanges."""
        layers = len(problem.of_layer())
        if problem.budget is None:
            return len(probes(problem)) + _HALVINGS * 2
        return len(probes(problem)) + len(self.powers) + 1 + (layers + self.exchanges if self.exchanges else 0)

    def _candidates(self, problem: Problem, trials: Sequence[Trial]) -> list[Plan]:
        """Plans that are to be tried as far as the trials tell, in order; those that were tried are among them."""
        table = options_of(problem, trials)
        if problem.budget is None:
            return self._shrinking(problem, trials, table)
        plans = [allocated(problem, table, power) for power in self.powers]
        plans.append(uniform_within(problem))
        harms = {trial.plan: trial.harm for trial in trials if trial.joint}
        if not self.exchanges or any(plan not in harms for plan in plans):
            return plans
        best = min(plans, key=lambda plan: harms[plan])
        upward = {choice.layer: _moved(problem, best, choice, +1) for choice in best.choices}
        plans += [plan for plan in upward.values() if plan is not None]
        if any(plan not in harms for plan in plans):
            return plans
        worth = {layer: harms[best] - harms[plan] for layer, plan in upward.items() if plan is not None}
        exchanged = [_exchanged(problem, best, worth, size) for size in range(1, self.exchanges + 1)]
        return plans + [plan for plan in exchanged if plan is not None]

    def _shrinking(self, problem: Problem, trials: Sequence[Trial], table: dict[str, list[Option]]) -> list[Plan]:
        """Allocations at budgets between all and nothing, halved towards the smallest that keeps the drop."""
        drops = {trial.plan: trial.drop for trial in trials if trial.joint}
        plans, fails, passes = [], 0.0, 1.0
        for _ in range(_HALVINGS):
            share = (fails + passes) / 2
            limited = problem.limited(share)
            both = [allocated(limited, table, power) for power in self.powers[:2]]
            plans += both
            if any(plan not in drops for plan in both):
                return plans
            kept = any(drops[plan] <= problem.allowed for plan in both)
            fails, passes = (fails, share) if kept else (share, passes)
        return plans


def _moved(problem: Problem, plan: Plan, choice: Choice, steps: int) -> Plan | None:
    """``plan`` with one layer moved along its ladder; None beyond its ends."""
    ladder = problem.ladder(choice)
    position = ladder.position(choice) + steps
    if not 0 <= position < len(ladder.ranks):
        return None
    moved = replace(choice, rank=ladder.ranks[position])
    return Plan(tuple(moved if other is choice else other for other in plan.choices))


def _exchanged(problem: Problem, plan: Plan, worth: dict[str, float], size: int) -> Plan | None:
    """``plan`` with the ``size`` worthiest layers one rank up, paid by the least worthy ones, each one rank down."""

    def worth_its_cost(choice: Choice) -> float:
        ladder = problem.ladder(choice)
        at, costs = ladder.position(choice), ladder.costs(problem.measure)
        step = costs[min(at + 1, len(costs) - 1)] - costs[at]
        return worth.get(choice.layer, 0.0) / step if step > 0 else 0.0

    ranked = sorted(plan.choices, key=worth_its_cost, reverse=True)
    up, rest = ranked[:size], list(reversed(ranked[size:]))
    moved = plan
    for choice in up:
        higher = _moved(problem, moved, _same(moved, choice), +1)
        if higher is None:
            return None
        moved = higher
    for choice in rest:
        if problem.admits(moved):
            return moved
        moved = _moved(problem, moved, _same(moved, choice), -1) or moved
    return moved if problem.admits(moved) else None


def _same(plan: Plan, choice: Choice) -> Choice:
    found = plan.of(choice.layer)
    if found is None:
        raise ValueError(f"a plan that is moved keeps its layers; {choice.layer} is gone")
    return found
