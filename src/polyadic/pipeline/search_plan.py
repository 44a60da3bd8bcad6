"""A search by itself: the plan, and nothing carried out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polyadic.costing import MACS_CONVENTION
from polyadic.pipeline.options import CompressOptions, FoundPlan, LayerForecast, OnProgress, TriedPlan
from polyadic.pipeline.outcome import environment, planned_layer
from polyadic.pipeline.problem import Asked
from polyadic.pipeline.reach import Reached
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.run import Judge, Run
from polyadic.search import Problem, Trial


def search_plan(
    model: nn.Module,
    data: Judge,
    example_input: Tensor | None = None,
    *,
    max_drop: float | str | None = None,
    budget: Sequence[str] = (),
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> FoundPlan:
    """The plan that :func:`polyadic.compress` would carry out with the same arguments, and the front of what was tried.

    ``compress(..., plan=found.plan)`` carries it out; so does ``compress`` with the same arguments, ``options.work``
    and ``resume``, which takes the trials from the log.

    Raises:
        As :func:`polyadic.compress`.
    """
    asked = Asked(max_drop, tuple(budget), tuple(formats))
    run = Run.begin(Round.first(model), data, example_input, asked, options or CompressOptions(), on_progress)
    reached, prover = run.reach()
    problem, trials = reached.problem, run.journal.trials
    known = [trial for trial in trials if trial.joint and trial.plan == reached.plan]
    last = known[-1] if known else prover.prove(reached.plan)[0]
    run.clock.lap("search")
    return FoundPlan(
        tried=_tried(problem, last),
        speed=reached.speed,
        dense=run.cost,
        dense_score=run.workshop.dense_score,
        search=run.request.search.name,
        stop=reached.stop,
        trials=len(trials),
        front=front(problem, [*trials, last]),
        seconds=run.clock.laps,
        max_drop=None if run.request.max_drop is None else run.request.max_drop.points(run.workshop.dense_score),
        layers=_layers(run, reached),
        provenance={
            **environment(),
            **run.workshop.task.provenance(),
            **run.provenance(reached),
            "macs_convention": MACS_CONVENTION,
        },
    )


def front(problem: Problem, trials: Sequence[Trial]) -> tuple[TriedPlan, ...]:
    """The plans of the whole network that no other beats in cost and harm, cheapest first.

    Cost is what counts in the problem; harm the loss, or the drop where none was measured.
    """
    several = len(problem.of_layer()) > 1
    wholes = {trial.plan: trial for trial in trials if trial.joint and (len(trial.plan.choices) > 1 or not several)}
    priced = [(problem.figure(trial.plan), trial) for trial in wholes.values()]
    kept, least = [], float("inf")
    for _, trial in sorted(priced, key=lambda row: (row[0], row[1].harm)):
        if trial.harm < least:
            least = trial.harm
            kept.append(_tried(problem, trial))
    return tuple(kept)


def _layers(run: Run, reached: Reached) -> tuple[LayerForecast, ...]:
    """What the plan does to each layer."""
    sites, options = run.workshop.sites.values(), run.workshop.options
    return tuple(planned_layer(site, reached.plan, run.request, reached.problem, options) for site in sites)


def _tried(problem: Problem, trial: Trial) -> TriedPlan:
    return TriedPlan(trial.plan, problem.cost(trial.plan), trial.drop, trial.loss)
