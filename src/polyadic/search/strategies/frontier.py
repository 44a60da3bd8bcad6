"""Allocation along the frontier of every layer, corrected by a few trials of whole networks.

1. What each layer does alone along its ranks, in each format, is measured at a few of them, with all other layers dense
   (:mod:`polyadic.search.loss_table`).
2. The budget is divided by Lagrange multipliers (:mod:`polyadic.search.allocation`), for several powers of the losses:
   where layers hurt each other, sums of single losses are no longer right, and which power is, the trials of the whole
   network tell. Uniform shares and equal errors are tried beside them.
3. Around the best power the network is divided into groups of neighbouring layers. Each group in turn is given more of
   the budget, and all others less: that tells where in the network losses weigh more than single layers say. Then all
   groups move by as much as that has shown to be worth, in steps of three sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from polyadic.schema import Plan, Trial
from polyadic.search.allocation import Table, allocate
from polyadic.search.loss_table import Option, is_complete, missing_probe, options_of, probes
from polyadic.search.space import SearchSpace
from polyadic.search.strategies.error_bound import error_bound_plan
from polyadic.search.strategies.uniform import uniform_within
from polyadic.search.strategy import RankSearch, best_within, cheapest_kept

_HALVINGS = 6  # of the budget, where a drop is given
_WEIGHT = 2.0  # of a group that is given more, on its losses to the power
_STEPS = (1.0, 0.5, 2.0)  # of all groups together, in that weight for the one that gained or lost most


@final
@dataclass(frozen=True)
class Frontier(RankSearch):
    """The allocation that the module describes; no paper has it.

    Attributes:
        powers: of the losses, tried one after the other.
        groups: how many parts of the network are given more, one after the other; below 2 leaves step 3 out.
    """

    name = "frontier"
    wants_errors = True  # losses are read off them

    powers: tuple[float, ...] = (1.0, 0.5, 2.0, 0.25)
    groups: int = 8

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next row of the table, then whole plans."""
        if space.budget is not None and space.admits(Plan()):
            return None
        probe = missing_probe(space, trials, running)
        if probe is not None or not is_complete(space, trials):
            return probe
        tried = {trial.plan for trial in trials if trial.joint} | set(running)
        return next((plan for plan in self._plans_to_try(space, trials) if plan not in tried), None)

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan of least loss within the budget, or the cheapest one that kept the drop."""
        if space.budget is None:
            return cheapest_kept(space, trials)
        if space.admits(Plan()):
            return Plan()
        best = best_within(space, trials)
        if best is not None:
            return best
        return allocate(space, options_of(space, trials)) if is_complete(space, trials) else uniform_within(space)

    def expected_trials(self, space: SearchSpace) -> int:
        """The table, the powers and the two plans beside them, the groups, and what they lead to."""
        rows = len(probes(space))
        if space.budget is None:
            return rows + _HALVINGS * 2
        groups = min(self.groups, len(space.by_layer()))
        return rows + len(self.powers) + 2 + (groups + len(_STEPS) if groups > 1 else 0)

    def _plans_to_try(self, space: SearchSpace, trials: Sequence[Trial]) -> list[Plan]:
        """Plans worth a trial as far as the trials tell, in order; those that were tried are among them."""
        table = options_of(space, trials)
        if space.budget is None:
            return self._shrinking(space, trials, table)
        of_power = [allocate(space, table, power) for power in self.powers]
        plans = [*of_power, uniform_within(space), error_bound_plan(space)]
        plans = [plan for plan in plans if plan.choices]
        losses = {trial.plan: trial.loss for trial in trials if trial.joint}
        if any(plan not in losses for plan in plans):
            return plans
        base, power = min(zip(of_power, self.powers, strict=True), key=lambda pair: losses[pair[0]])
        parts = _parts([*table], self.groups)
        if len(parts) < 2:
            return plans
        favoured = [allocate(space, _weighted(table, {part: 1.0}, power), power) for part in parts]
        plans += favoured
        if any(plan not in losses for plan in plans):
            return plans
        gains = {part: _gain(losses[base], losses[plan]) for part, plan in zip(parts, favoured, strict=True)}
        most = max(map(abs, gains.values()))
        for step in _STEPS if most > 0 else ():
            moved = {part: step * gain / most for part, gain in gains.items()}
            plans.append(allocate(space, _weighted(table, moved, power), power))
        return plans

    def _shrinking(self, space: SearchSpace, trials: Sequence[Trial], table: dict[str, list[Option]]) -> list[Plan]:
        """Allocations at budgets between all and nothing, halved towards the smallest that keeps the drop."""
        drops = {trial.plan: trial.drop for trial in trials if trial.joint}
        plans, fails, passes = [], 0.0, 1.0
        for _ in range(_HALVINGS):
            share = (fails + passes) / 2
            limited = space.limited(share)
            both = [allocate(limited, table, power) for power in self.powers[:2]]
            plans += both
            if any(plan not in drops for plan in both):
                return plans
            kept = any(drops[plan] <= space.allowed for plan in both)
            fails, passes = (fails, share) if kept else (share, passes)
        return plans


def _parts(layers: Sequence[str], groups: int) -> list[tuple[str, ...]]:
    """Neighbouring layers, in at most that many groups of about equal number."""
    count = min(groups, len(layers))
    return [tuple(layers[at * len(layers) // count : (at + 1) * len(layers) // count]) for at in range(count)]


def _weighted(table: Table, moved: Mapping[tuple[str, ...], float], power: float) -> Table:
    """The table with losses of groups weighted, to the power, by that many factors of :data:`_WEIGHT`."""
    factors = {layer: _WEIGHT ** (far / power) for part, far in moved.items() for layer in part}
    return {
        layer: [replace(option, loss=option.loss * factors.get(layer, 1.0)) for option in options]
        for layer, options in table.items()
    }


def _gain(before: float, after: float) -> float:
    """By how much a plan is better, as a share of both; what is ruined is worse by all."""
    if not after < math.inf:
        return -1.0
    return (before - after) / (before + after) if 0 < before + after < math.inf else 0.0
