"""Search for a plan: ask the strategy, try what it proposes, write it down, until there is nothing left to learn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from polyadic.engines import environment
from polyadic.errors import BudgetError
from polyadic.layers import Inputs
from polyadic.pipeline.alarm import Verdict, blind_warning, compare_answers, ruin_warning
from polyadic.pipeline.candidates import prepare_candidates
from polyadic.pipeline.latency_check import check_latency
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.outcomes import estimate_layers
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.setup import Judge, SearchSetup, as_task, example_for, prepare_search
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost
from polyadic.schema import Choice, LatencyResult, Plan, Rank, SearchResult, TriedPlan, pareto_front, plain_rank
from polyadic.search import SearchSpace, Trial, relax_plan
from polyadic.surgery import MACS_CONVENTION, separate_for_good
from polyadic.training import Compare, Forward, ImageTask, Metric, Samples, check_gradients

COMPLETE = "the search had nothing left to try"
WAIT_S = 1.0  # between two looks at what other workers are trying
STEPS = 16  # of the relaxation


@dataclass(frozen=True)
class Conclusion:
    """The end of a search.

    Attributes:
        plan: layer, format, rank.
        space: what it was looked for in, with all ranks of the candidates.
        stop: why the search ended.
        conclude: what it would have concluded, from the same trials, in a space with another budget; None where the
            plan was given.
        latency: of the plan on the engine, where one was named.
    """

    plan: Plan
    space: SearchSpace
    stop: str
    conclude: Callable[[SearchSpace], Plan] | None = None
    latency: LatencyResult | None = None


def find_plan(
    model: nn.Module,
    data: Judge,
    example_input: Inputs | None = None,
    *,
    validation: Samples | None = None,
    metric: Callable[[nn.Module], Any] | Metric | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    forward: Forward | None = None,
    compare: Compare | None = None,
    max_drop: float | str | None = None,
    budget: Sequence[str] = (),
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> SearchResult:
    """The plan that :func:`polyadic.compress` would carry out with the same arguments, and the front of what was tried.

    The model is left as it was. ``compress(..., plan=found.plan)`` carries the plan out, and so does
    :func:`polyadic.apply_plan`. Several workers that call this with the same arguments and one ``options.storage``
    share their trials and end with the same plan.

    Example::

        found = polyadic.find_plan(model, data, budget=["macs=50%"])
        print(found.plan, found.tried.drop)

    Args:
        model: any module; a classifier if ``data`` is images.
        data: samples, images, a task, or a function from a model to its score; see :func:`polyadic.compress`.
        example_input: what the network takes; needed with a score function only.
        validation: see :func:`polyadic.compress`.
        metric: see :func:`polyadic.compress`.
        loss: see :func:`polyadic.compress`; a search does not follow it.
        forward: see :func:`polyadic.compress`.
        compare: see :func:`polyadic.compress`.
        max_drop: what may be lost in the end, after fine-tuning; see :func:`polyadic.compress`.
        budget: what the network may cost, such as ``["macs=50%", "params=200k"]``; see :meth:`Budget.parse`.
        formats: names of the formats to choose from.
        options: everything else.
        on_progress: called at every step.

    Raises:
        As :func:`polyadic.compress`.
    """
    options, start = options or CompressOptions(), Round.first(model)
    task = as_task(
        data, start.origin, validation=validation, metric=metric, loss=loss, forward=forward, compare=compare
    )
    if task.needs_gradients:
        check_gradients(start.origin)
    example = example_for(start.origin, task, example_input)
    separate_for_good(start.origin, example)
    cost = measure_cost(start.origin, example, options)
    target = Target.of(max_drop, budget, formats, None, options, cost)
    setup = prepare_search(start, task, example, target, cost, options, on_progress)
    found = run_search(setup)
    trials, evaluator = setup.trials.trials, setup.evaluator
    known = [trial for trial in trials if trial.joint and trial.plan == found.plan]
    last = known[-1] if known else evaluator.evaluate(found.plan, found.space)[0]
    setup.clock.lap("search")
    verdict = _verdict(setup, found.plan)
    setup.clock.lap("check")
    doubt = task.doubt_of(evaluator.dense_score)
    provenance = {
        **environment(),
        **task.provenance(),
        **search_provenance(setup, found),
        **verdict.provenance(options.alarm_at),
        "macs_convention": MACS_CONVENTION,
    }
    return SearchResult(
        tried=_tried(found.space, last),
        speed=found.latency,
        dense=cost,
        dense_score=evaluator.dense_score,
        search=target.search.name,
        stop=found.stop,
        trials=len(trials),
        front=_front(found.space, [*trials, last]),
        seconds=setup.clock.laps,
        max_drop=setup.max_drop,
        layers=estimate_layers(found.plan, evaluator.layers.values(), target, found.space, options),
        provenance=provenance,
        score_name=task.score_name,
        score_is_fraction=task.score_is_fraction,
        score_unit=task.score_unit,
        warnings=(
            *ruin_warning(provenance, carried_out=False),
            *([] if doubt is None else [doubt]),
            *(found.latency.warnings if found.latency is not None else ()),
            *blind_warning(provenance, wanted=options.data_aware and bool(found.plan.choices)),
        ),
    )


def _verdict(setup: SearchSetup, plan: Plan) -> Verdict:
    """What the network would have lost if the plan were carried out now, and nothing were trained.

    The trials replace each layer for itself; here they are fitted one behind the other, as they will be.
    """
    evaluator, task = setup.evaluator, setup.evaluator.task
    if not plan.choices:
        return Verdict(0.0, "the dense network itself")
    network = evaluator.apply(plan)[0]
    scores = (evaluator.dense_score, task.score(network))
    verdict = compare_answers(task, setup.round.origin, network, scores, setup.example)
    # test images are read once, at the end of a compression
    return replace(verdict, where="held-out images") if isinstance(task, ImageTask) else verdict


def run_search(setup: SearchSetup) -> Conclusion:
    """Find the plan: try what the strategy proposes until it has seen enough, or trials or time are used up.

    Trials of an earlier run that is gone on with count, and so do those of other workers, whose last ones are waited
    for. Seconds are those of this call. A plan that the user gave, or that needs nothing, is concluded at once.

    Raises:
        BudgetError: no plan keeps the drop.
    """
    evaluator, target, options, store = setup.evaluator, setup.target, setup.options, setup.trials
    if target.plan is not None:
        return _in_time(setup, Conclusion(target.plan, setup.space, "a plan was given"))
    if target.is_met_by(setup.space.dense):
        return _in_time(setup, Conclusion(Plan(), setup.space, "the rounds before have met the budget"))
    strategy, space, began = target.search, _space_to_search(setup), time.monotonic()
    evaluate = evaluator.evaluate_tuned if strategy.tunes_layers else evaluator.evaluate
    stop: str | None = None
    while stop is None:
        running = store.running  # before the trials: what ends meanwhile is in both
        trials = store.trials
        plan = strategy.propose(space, trials, running)
        full = options.trials is not None and len(trials) + len(running) >= options.trials
        if options.timeout is not None and time.monotonic() - began > options.timeout and plan is not None:
            stop = f"the limit of {options.timeout:g} seconds was reached"
        elif (plan is None or full) and not running:
            stop = COMPLETE if plan is None else f"the limit of {options.trials} trials was reached"
        else:
            expected = strategy.expected_trials(space)
            if plan is not None and not full:
                total = max(expected, len(trials))
                evaluator.show(Progress("search", len(trials), total, trying=_in_words(plan)))
            trial = store.run_trial(None if full else plan, partial(evaluate, space=space, trials=trials))
            if trial is None:
                time.sleep(WAIT_S)  # others are at work
            else:
                evaluator.show(_progress(trial, space, len(store.trials), expected))
    found = strategy.conclude(space, store.trials)
    conclude = _restore_ranks if strategy.tunes_layers else _fill_up
    return _in_time(setup, conclude(setup, space, found, stop))


def search_provenance(setup: SearchSetup, found: Conclusion) -> dict[str, object]:
    """What was asked, and how the search ended, as plain data."""
    options, target = setup.options, setup.target
    tuned = target.search.tunes_layers and target.plan is None
    return {
        "seed": options.seed,
        "eps": found.space.threshold if tuned else None,
        "formats": list(target.formats),
        "exclude": list(options.exclude),
        "data_aware": setup.evaluator.data_aware,
        "recoverable": options.finetune_recovery_factor,
        "budget": str(target.budget) if target.budget is not None else None,
        "search": None if target.plan is not None else repr(target.search),
        "search_stop": found.stop,
        **({"latency": {"where": str(options.latency), **found.latency.to_json()}} if found.latency else {}),
        "trials": len(setup.trials.trials),
    }


def _space_to_search(setup: SearchSetup) -> SearchSpace:
    """The search space as the strategy wants it: with a threshold for single layers, or with few ranks and errors."""
    target, options, space = setup.target, setup.options, setup.space
    if target.search.tunes_layers:
        share = min(setup.max_drop or 0.0, space.allowed / len(space.by_layer()))
        given = options.max_drop_per_layer
        return replace(space, threshold=share if given is None else given)
    all_candidates = prepare_candidates(
        target.search,
        space.candidates,
        setup.evaluator.decompose,
        options.candidates_per_layer,
        setup.evaluator.show,
    )
    return replace(space, candidates=all_candidates)


def _fill_up(setup: SearchSetup, searched: SearchSpace, found: Plan, stop: str) -> Conclusion:
    """What the search leaves of the budget is filled up from all ranks.

    Raises:
        BudgetError: no plan keeps the drop.
    """
    space, store, strategy = setup.space, setup.trials, setup.target.search
    if not found.choices:
        raise BudgetError(
            f"no plan lost at most {space.in_unit(space.allowed)} on the held-out samples before fine-tuning "
            f"({len(store.trials)} trials; {stop}): allow a larger drop, more trials, or other formats"
        )

    def conclude(other: SearchSpace) -> Plan:
        few = replace(other, candidates=searched.candidates)
        return fill_budget(other, strategy.conclude(few, store.trials))

    return Conclusion(fill_budget(space, found), space, stop, conclude)


def _restore_ranks(setup: SearchSetup, space: SearchSpace, found: Plan, stop: str) -> Conclusion:
    """Give ranks back to all layers until fine-tuning can win back what the whole network loses.

    Losses of single layers add up, so ranks that suit each layer alone may ruin the whole. The smallest share of ranks
    that has to be given back, in sixteenths, is found by bisection. A threshold that the user gave is taken as it is.

    Raises:
        BudgetError: no layer passes, or the network loses too much whatever is given back.
    """
    if not found.choices:
        ended = "" if stop == COMPLETE else f"; {stop}"
        raise BudgetError(
            f"no layer can be made cheaper with at most {space.in_unit(space.threshold)} lost on the held-out samples "
            f"(tried: {len(space.candidates)} pairs of layer and format{ended}): allow a larger drop, or other formats"
        )
    allowed, best = space.allowed, found
    lost = 0.0 if setup.options.max_drop_per_layer is not None else _joint_drop(setup, found)
    if not lost <= allowed:
        # the drop falls about as exp(-6 share): begin there, double while it fails, bisect once it has passed
        guess = STEPS * math.log(lost / allowed) / 6.0 if allowed > 0 else STEPS / 2
        fails, passes, step, least = 0, STEPS + 1, min(max(round(guess), 1), STEPS), lost
        while passes - fails > 1:
            plan = relax_plan(found, space.candidates, step / STEPS, space.measure)
            lost = _joint_drop(setup, plan)
            least = min(least, lost)
            if lost <= allowed:
                passes, best = step, plan
            else:
                fails = step
            step = min(2 * fails, STEPS) if passes > STEPS else (fails + passes) // 2
            if fails == STEPS:
                raise BudgetError(
                    f"before fine-tuning the whole network may lose {space.in_unit(allowed)} on the held-out samples; "
                    f"it loses {least:.4g} even at the highest ranks: allow a larger drop, exclude layers, or give "
                    "max_drop_per_layer yourself"
                )
    return Conclusion(best, space, stop, lambda _: best)


def _joint_drop(setup: SearchSetup, plan: Plan) -> float:
    """Points that the network loses when all of ``plan`` is applied, untuned; from the trials if known."""
    evaluator, store = setup.evaluator, setup.trials
    while True:
        running = store.running
        known = [trial.drop for trial in store.trials if trial.joint and trial.plan == plan]
        if known:
            return known[-1]
        if store.run_trial(None if plan in running else plan, evaluator.evaluate_applied) is None:
            time.sleep(WAIT_S)  # another worker tries it


def _in_time(setup: SearchSetup, found: Conclusion) -> Conclusion:
    """Where an engine was named: the plan, or what has to take its place so that the whole network is fast enough."""
    check = setup.latency_check
    if check is None:
        return found
    latency = check_latency(check, found.plan, found.conclude, require_speedup=setup.options.require_speedup)
    return replace(found, plan=latency.plan, latency=latency)


def fill_budget(space: SearchSpace, plan: Plan) -> Plan:
    """``plan`` with all layers moved up their ranks alike, then one by one, as far as the budget admits.

    A search works on a few ranks of each layer; this uses what lies between them. One by one means: the layers that
    have lost most go up first, and those at their highest rank become dense where there is room. Without a budget the
    plan stays.
    """
    if space.budget is None or not space.admits(plan):
        return plan
    low, high = 0.0, 1.0
    for _ in range(30):  # halvings: below the step from one rank to the next
        middle = (low + high) / 2
        low, high = (
            (middle, high) if space.admits(relax_plan(plan, space.candidates, middle, space.measure)) else (low, middle)
        )
    plan = relax_plan(plan, space.candidates, low, space.measure)
    nearest_last = sorted(plan.choices, key=lambda choice: _share(space, choice))
    for choice in nearest_last:
        candidates = space.candidates_for(choice)
        for rank in candidates.ranks[candidates.position(choice) + 1 :]:
            higher = _with_rank(plan, choice.layer, rank)
            if not space.admits(higher):
                break
            plan = higher
    for choice in reversed(nearest_last):
        without = _with_rank(plan, choice.layer, None)
        if plan.of(choice.layer) == replace(choice, rank=space.candidates_for(choice).ranks[-1]) and space.admits(
            without
        ):
            plan = without
    return plan


def _share(space: SearchSpace, choice: Choice) -> float:
    candidates = space.candidates_for(choice)
    return candidates.costs(space.measure)[candidates.position(choice)] / (candidates.dense_cost(space.measure) or 1)


def _with_rank(plan: Plan, layer: str, rank: Rank | None) -> Plan:
    """``plan`` with another rank for one layer; None leaves it dense."""
    changed = (replace(choice, rank=rank) if choice.layer == layer and rank else choice for choice in plan.choices)
    return Plan(tuple(choice for choice in changed if rank is not None or choice.layer != layer))


def _front(space: SearchSpace, trials: Sequence[Trial]) -> tuple[TriedPlan, ...]:
    """The plans of the whole network that no other beats in cost and loss, cheapest first.

    Cost is what counts in the space; loss the divergence, or the drop where none was measured.
    """
    several = len(space.by_layer()) > 1
    wholes = {trial.plan: trial for trial in trials if trial.joint and (len(trial.plan.choices) > 1 or not several)}
    front = pareto_front(wholes.values(), lambda trial: space.figure(trial.plan), lambda trial: trial.loss)
    return tuple(_tried(space, trial) for trial in front)


def _tried(space: SearchSpace, trial: Trial) -> TriedPlan:
    return TriedPlan(trial.plan, space.cost(trial.plan), trial.drop, trial.divergence)


def _progress(trial: Trial, space: SearchSpace, done: int, expected: int) -> Progress:
    whole = trial.joint and (len(trial.plan.choices) > 1 or len(space.by_layer()) == 1)
    message = f"{_in_words(trial.plan)}: drop {space.in_unit(trial.drop)}"
    return Progress("search", done, max(expected, done), message, tried=_tried(space, trial), whole=whole)


def _in_words(plan: Plan) -> str:
    if len(plan.choices) > 1:
        return f"{len(plan.choices)} layers"
    return ", ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in plan.choices)
