"""The loop of a search: ask the strategy for a plan, try it, write it down, until one of three says stop."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from polyadic.pipeline.options import Progress, TriedPlan
from polyadic.pipeline.single_layers import try_out
from polyadic.pipeline.whole_plans import Prover
from polyadic.schema import Plan, plain_rank
from polyadic.search import RankSearch, SearchSpace, TrialStore

COMPLETE = "the search had nothing left to try"
WAIT_S = 1.0  # between two looks at what other workers are trying


@dataclass(frozen=True)
class Concluded:
    """What a search ended with, and why it ended."""

    plan: Plan
    stop: str


def searched(prover: Prover, strategy: RankSearch, space: SearchSpace, journal: TrialStore) -> Concluded:
    """Try what ``strategy`` proposes until it has seen enough, or trials or time are used up; then its conclusion.

    Trials of an earlier run that is gone on with count, and so do those of other workers, whose last ones are waited
    for. Seconds are those of this call.
    """
    options, began = prover.workshop.options, time.monotonic()
    while True:
        running = journal.running  # before the trials: what ends meanwhile is in both
        trials = journal.trials
        plan = strategy.propose(space, trials, running)
        full = options.trials is not None and len(trials) + len(running) >= options.trials
        if options.timeout is not None and time.monotonic() - began > options.timeout and plan is not None:
            stop = f"the limit of {options.timeout:g} seconds was reached"
            break
        if (plan is None or full) and not running:
            stop = COMPLETE if plan is None else f"the limit of {options.trials} trials was reached"
            break
        if plan is None or full or not journal.claim(plan):
            time.sleep(WAIT_S)
            continue
        _try(prover, strategy, space, journal, plan)
    return Concluded(strategy.conclude(space, journal.trials), stop)


def _try(prover: Prover, strategy: RankSearch, space: SearchSpace, journal: TrialStore, plan: Plan) -> None:
    """One trial, written down when it is over."""
    workshop, began = prover.workshop, time.monotonic()
    done, words = len(journal.trials), _in_words(plan)
    workshop.show(Progress("search", done, max(strategy.expected_trials(space), done), trying=words))
    try:
        if strategy.tunes_layers:
            trial, details = try_out(workshop, plan, space.threshold)
        else:
            trial, details = prover.prove(plan, journal.trials)
    except BaseException:
        journal.release()
        raise
    cost = space.cost(plan)
    journal.add(trial, {**details, "cost": asdict(cost), "seconds": round(time.monotonic() - began, 3)})
    done = len(journal.trials)
    total = max(strategy.expected_trials(space), done)
    said = f"{words}: drop {trial.drop:.2f} points"
    tried = TriedPlan(plan, cost, trial.drop, trial.divergence)
    whole = trial.joint and (len(plan.choices) > 1 or len(space.by_layer()) == 1)
    workshop.show(Progress("search", done, total, said, tried=tried, whole=whole))


def _in_words(plan: Plan) -> str:
    if len(plan.choices) > 1:
        return f"{len(plan.choices)} layers"
    return ", ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in plan.choices)
