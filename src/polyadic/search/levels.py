"""Families of plans that one number orders by cost: what uniform, error-bound and EVBMF ranks have in common.

Under a budget the dearest plan that it admits is taken, and tried once, for the record. Under an allowed drop the
cheapest plan that keeps it is found by bisection, one trial a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polyadic.schema import Plan
from polyadic.search.rank_search import SearchSpace, Trial, cheapest_kept, cheapest_plan

STEPS = 64

PlanAt = Callable[[float], Plan]
"""From a level, 0 (cheapest) to 1 (dearest), to a plan; the cost never falls with the level."""


def propose_level(
    plan_at: PlanAt, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()
) -> Plan | None:
    """The next plan of the family to try; None when the answer is known, or being tried."""
    tried = {trial.plan: trial for trial in trials if trial.joint}
    if space.budget is not None:
        plan = dearest_within(plan_at, space)
        return None if plan in tried or plan in running or not plan.choices else plan
    middle = _middle(plan_at, space, trials)
    return None if middle is None or middle in running else middle


def conclude_level(plan_at: PlanAt, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
    """The plan that the budget admits, or the cheapest one that kept the drop; empty if none did."""
    if space.budget is not None:
        return dearest_within(plan_at, space)
    return cheapest_kept(space, trials)


def expected_levels(space: SearchSpace) -> int:
    """Trials that the family takes."""
    return 1 if space.budget is not None else STEPS.bit_length()


def dearest_within(plan_at: PlanAt, space: SearchSpace) -> Plan:
    """The dearest plan of the family within the budget; the cheapest plan of all if none is."""
    low, high = 0.0, 1.0
    if space.admits(plan_at(high)):
        return plan_at(high)
    if not space.admits(plan_at(low)):
        return cheapest_plan(space)
    for _ in range(40):  # halvings of the level: below the step from one rank to the next
        middle = (low + high) / 2
        low, high = (middle, high) if space.admits(plan_at(middle)) else (low, middle)
    return plan_at(low)


def _middle(plan_at: PlanAt, space: SearchSpace, trials: Sequence[Trial]) -> Plan | None:
    """The plan between the dearest level that failed and the cheapest that passed."""
    known = {Plan(): True, **{trial.plan: trial.drop <= space.allowed for trial in trials if trial.joint}}
    fails, passes = -1, STEPS + 1
    while passes - fails > 1:
        middle = (fails + passes) // 2
        plan = plan_at(middle / STEPS)
        if plan not in known:
            return plan
        fails, passes = (fails, middle) if known[plan] else (middle, passes)
    return None
