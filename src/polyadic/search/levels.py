"""Families of plans that one number orders by cost: what uniform, error-bound and EVBMF ranks have in common.

Under a budget the dearest plan that it admits is taken, and tried once, for the record. Under an allowed drop the
cheapest plan that keeps it is found by bisection, one trial a step.

Uniform and EVBMF ranks try no format, so one is chosen for them. Where nothing was timed it is the first one: the user
has put them in order. Where an engine was asked, a rank of any format is worth taking if no other one loses less and is
no slower. Its loss is the error of the kernel where that is known. Otherwise a chain that does more
multiply-accumulates in the same time counts as losing less; so of several formats the fastest at a given number of them
is taken.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from polyadic.schema import Measure, Plan, Trial
from polyadic.search.space import Candidate, RankCandidates, SearchSpace, cheapest_plan
from polyadic.search.strategy import RankSearch, cheapest_kept

STEPS = 64

PlanAt = Callable[[float], Plan]
"""From a level, 0 (cheapest) to 1 (dearest), to a plan; the cost never falls with the level."""


class LevelSearch(RankSearch):
    """A strategy that has one family of plans; a subclass says which."""

    @abstractmethod
    def family(self, space: SearchSpace) -> PlanAt:
        """The plan at each level."""

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The plan of the level that meets the budget, or the next one of a bisection; None once that is known."""
        plan_at = self.family(space)
        if space.budget is None:
            middle = _middle(plan_at, space, trials)
            return None if middle is None or middle in running else middle
        plan = dearest_within(plan_at, space)
        tried = {trial.plan for trial in trials if trial.joint}
        return None if plan in tried or plan in running or not plan.choices else plan

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan that the budget admits, or the cheapest one that kept the drop; empty if none did."""
        return cheapest_kept(space, trials) if space.budget is None else dearest_within(self.family(space), space)

    def expected_trials(self, space: SearchSpace) -> int:
        """One under a budget, else the steps of the bisection."""
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


def worthwhile_ranks(formats: Sequence[RankCandidates]) -> list[Candidate]:
    """The ranks of one layer that are worth taking, the greatest loss first; where they are timed, the fastest first.

    Args:
        formats: the candidates of the layer, one per format.
    """
    first = formats[0]
    if not all(candidates.times for candidates in formats):
        return [(first, at) for at in range(len(first.ranks))]
    known = all(candidates.errors is not None for candidates in formats)

    def loss(candidate: Candidate) -> float:
        candidates, at = candidate
        return candidates.errors[at] if known and candidates.errors is not None else -candidates.macs[at]

    def milliseconds(candidate: Candidate) -> float:
        return candidate[0].times[candidate[1]]

    every = [(candidates, at) for candidates in formats for at in range(len(candidates.ranks))]
    kept: list[Candidate] = []
    for candidate in sorted(every, key=lambda candidate: (loss(candidate), milliseconds(candidate))):
        if not kept or milliseconds(candidate) < milliseconds(kept[-1]):
            kept.append(candidate)
    return kept[::-1]


def least_loss_within(ranks: Sequence[Candidate], most: float, measure: Measure) -> Candidate:
    """The one of :func:`worthwhile_ranks` that loses least and costs at most ``most``; the cheapest where none does.

    What it costs never falls as ``most`` rises: a rank that is preferred to another and was not within before costs
    more than that did.
    """
    costs = [candidates.costs(measure)[at] for candidates, at in ranks]
    fitting = [candidate for candidate, cost in zip(ranks, costs, strict=True) if cost <= most]
    return fitting[-1] if fitting else ranks[costs.index(min(costs))]


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
