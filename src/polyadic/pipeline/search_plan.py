"""A search by itself: the plan, and nothing carried out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polyadic.pipeline.options import CompressOptions, LayerEstimate, OnProgress, SearchResult, TriedPlan
from polyadic.pipeline.outcome import environment, planned_layer
from polyadic.pipeline.reach import Reached
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.run import Judge, Run
from polyadic.pipeline.space import Asked
from polyadic.search import SearchSpace, Trial
from polyadic.surgery import MACS_CONVENTION


def find_plan(
    model: nn.Module,
    data: Judge,
    example_input: Tensor | None = None,
    *,
    max_drop: float | str | None = None,
    budget: Sequence[str] = (),
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> SearchResult:
    """The plan that :func:`polyadic.compress` would carry out with the same arguments, and the front of what was tried.

    ``compress(..., plan=found.plan)`` carries it out; so does ``compress`` with the same arguments, ``options.work``
    and ``resume``, which takes the trials from the log.

    Raises:
        As :func:`polyadic.compress`.
    """
    asked = Asked(max_drop, tuple(budget), tuple(formats))
    run = Run.begin(Round.first(model), data, example_input, asked, options or CompressOptions(), on_progress)
    reached, prover = run.reach()
    space, trials = reached.space, run.journal.trials
    known = [trial for trial in trials if trial.joint and trial.plan == reached.plan]
    last = known[-1] if known else prover.prove(reached.plan)[0]
    run.clock.lap("search")
    return SearchResult(
        tried=_tried(space, last),
        speed=reached.speed,
        dense=run.cost,
        dense_score=run.workshop.dense_score,
        search=run.request.search.name,
        stop=reached.stop,
        trials=len(trials),
        front=front(space, [*trials, last]),
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


def front(space: SearchSpace, trials: Sequence[Trial]) -> tuple[TriedPlan, ...]:
    """The plans of the whole network that no other beats in cost and harm, cheapest first.

    Cost is what counts in the problem; harm the loss, or the drop where none was measured.
    """
    several = len(space.by_layer()) > 1
    wholes = {trial.plan: trial for trial in trials if trial.joint and (len(trial.plan.choices) > 1 or not several)}
    priced = [(space.figure(trial.plan), trial) for trial in wholes.values()]
    kept, least = [], float("inf")
    for _, trial in sorted(priced, key=lambda row: (row[0], row[1].loss)):
        if trial.loss < least:
            least = trial.loss
            kept.append(_tried(space, trial))
    return tuple(kept)


def _layers(run: Run, reached: Reached) -> tuple[LayerEstimate, ...]:
    """What the plan does to each layer."""
    sites, options = run.workshop.sites.values(), run.workshop.options
    return tuple(planned_layer(site, reached.plan, run.request, reached.space, options) for site in sites)


def _tried(space: SearchSpace, trial: Trial) -> TriedPlan:
    return TriedPlan(trial.plan, space.cost(trial.plan), trial.drop, trial.divergence)
