"""Greedy search on a table of single-layer losses: always the next step that adds least loss for what it saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan, Trial
from polyadic.search.loss_table import Option, is_complete, missing_probe, options_of, options_plan, probes
from polyadic.search.space import SearchSpace, cheapest_plan
from polyadic.search.strategies.uniform import uniform_within
from polyadic.search.strategy import RankSearch, cheapest_kept


@final
@dataclass(frozen=True)
class Greedy(RankSearch):
    """From the dense network down, one layer at a time; the table serves any later budget."""

    name = "greedy"
    wants_errors = True  # losses are read off them

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next row of the table; then the plan itself, or a bisection along the descent."""
        probe = missing_probe(space, trials, running)
        if probe is not None or not is_complete(space, trials):
            return probe
        tried = {trial.plan for trial in trials if trial.joint} | set(running)
        plan = self._next(space, trials)
        return None if plan is None or not plan.choices or plan in tried else plan

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The first plan of the descent that the budget admits, or the last one that kept the drop.

        From an unfinished table: uniform ranks within the budget, or the cheapest row that kept the drop.
        """
        if not is_complete(space, trials):
            return uniform_within(space) if space.budget is not None else cheapest_kept(space, trials)
        descent = [*_descent(space, trials)]
        if space.budget is not None:
            return next((plan for plan in descent if space.admits(plan)), cheapest_plan(space))
        kept = {trial.plan for trial in trials if trial.joint and trial.drop <= space.allowed}
        return next((plan for plan in reversed(descent) if plan in kept), Plan())

    def expected_trials(self, space: SearchSpace) -> int:
        """The table, and a few more."""
        return len(probes(space)) + (1 if space.budget is not None else 8)

    def _next(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan | None:
        if space.budget is not None:
            return self.conclude(space, trials)
        descent = [plan for plan in _descent(space, trials) if plan.choices]
        drops = {trial.plan: trial.drop for trial in trials if trial.joint}
        passes, fails = -1, len(descent)
        while fails - passes > 1:
            middle = (fails + passes) // 2
            if descent[middle] not in drops:
                return descent[middle]
            passes, fails = (middle, fails) if drops[descent[middle]] <= space.allowed else (passes, middle)
        return None


def _descent(space: SearchSpace, trials: Sequence[Trial]) -> Iterator[Plan]:
    """Plans from dense to cheapest, each one step below the last."""
    table = options_of(space, trials)
    at = dict.fromkeys(table, 0)
    while True:
        yield options_plan(options[at[layer]] for layer, options in table.items())
        steps = [
            (_price(space, options[at[layer]], options[further]), layer, further)
            for layer, options in table.items()
            for further in range(at[layer] + 1, len(options))
        ]
        if not steps:
            return
        _, layer, further = min(steps)
        at[layer] = further


def _price(space: SearchSpace, now: Option, then: Option) -> float:
    """Loss added for each share of the network that is saved; infinite where there is no telling."""
    saved = (then.saved(space.measure) - now.saved(space.measure)) / space.dense_figure
    return (then.loss - now.loss) / saved if saved > 0 and math.isfinite(then.loss) else math.inf
