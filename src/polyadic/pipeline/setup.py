"""What a search begins with: the network taken in, the question stated, the trials of earlier runs at hand."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from polyadic.data import ImageData
from polyadic.errors import BudgetError, LayerError, PolyadicError
from polyadic.layers import Inputs, device_of, on_device, sample_shapes, tensors_in
from polyadic.pipeline.candidates import candidates_of_plan, find_candidates
from polyadic.pipeline.evaluator import PlanEvaluator
from polyadic.pipeline.latency_check import LatencyCheck
from polyadic.pipeline.options import CompressOptions, OnProgress
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost, time_candidates
from polyadic.schema import Budget, Cost, Plan, TrialRecord
from polyadic.schema.budget import format_cost
from polyadic.search import RankCandidates, SearchSpace, TrialStore, cheapest_plan, open_trials
from polyadic.surgery import check_patterns, find_layers_as_is, layer_at, matches_any
from polyadic.training import Compare, Forward, ImageTask, Metric, Samples, SampleTask, ScoreTask, Task
from polyadic.training.metric import is_fed

Judge = ImageData | Task | Callable[[nn.Module], float] | Samples
"""By what a network is judged: images, samples, a task, or a function from a model to its score."""

AFTER_THE_SEARCH = ("network_tuning", "testing_execution")
"""What a task reports of itself that no trial depends on: a search and a compression share their trials."""


class Clock:
    """Seconds of each part of a run."""

    def __init__(self) -> None:
        """Start."""
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """What was done since the last lap is called ``name``."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


@dataclass(frozen=True, eq=False)
class SearchSetup:
    """A network that is taken in, and what is asked of it.

    Attributes:
        round: the dense network as it came, and what the rounds before this one have left.
        target: what is asked of this round.
        evaluator: tries plans in a scratch copy of the network that the round begins with.
        space: what there is to choose from; the one rank of each layer where a plan was given.
        trials: those of earlier runs and of other workers, and where new ones are kept.
        digest: of everything that decides the trials.
        example: a batch, where the network is.
        cost: of the dense network as it came.
        clock: running since the network was taken in.
    """

    round: Round
    target: Target
    evaluator: PlanEvaluator
    space: SearchSpace
    trials: TrialStore
    digest: str
    example: Inputs
    cost: Cost
    clock: Clock = field(default_factory=Clock)

    @property
    def options(self) -> CompressOptions:
        """Of the run."""
        return self.evaluator.options

    @cached_property
    def origin_score(self) -> float:
        """The score of the dense network as it came, on the held-out images."""
        evaluator, origin = self.evaluator, self.round.origin
        return evaluator.dense_score if evaluator.dense is origin else evaluator.task.score(origin)

    @cached_property
    def max_drop(self) -> float | None:
        """What the network may lose in the end; None where only a budget, or a plan, was given."""
        drop = self.target.max_drop
        return None if drop is None else drop.allowed(self.evaluator.task.words, self.origin_score)

    @cached_property
    def latency_check(self) -> LatencyCheck | None:
        """Where plans are timed; None where no engine was named."""
        model, start = self.options.latency, self.round
        if model is None:
            return None
        return LatencyCheck(model, start.origin, self.example, self.space, self.cost.latency, start.whole_plan)


def prepare_search(
    start: Round,
    task: Task,
    example: Inputs,
    target: Target,
    cost: Cost,
    options: CompressOptions,
    show: OnProgress,
) -> SearchSetup:
    """Find the layers and their candidates, state the question, open the trials, measure the layers' inputs.

    Args:
        start: the round.
        task: what the network is for.
        example: a batch, where the network is.
        target: what is asked of all rounds together.
        cost: of the dense network as it came.
        options: of the run.
        show: told of every step.

    Raises:
        BudgetError: nothing can be made cheaper, or no plan keeps the budget.
        LayerError: the model cannot be run, or the plan does not fit it.
        PolyadicError: a log of another run.
    """
    clock, dense = Clock(), start.dense
    layers = find_layers_as_is(dense, example)
    now = _cost_now(start, example, cost, options)
    goal = target.of_round(start.number, start.count, cost)
    if goal.plan is None:
        all_candidates = find_candidates(dense, layers, goal.formats, options)
    else:
        check_patterns(options.exclude, [site.name for site in layers], "exclude")
        for choice in goal.plan.choices:
            if matches_any(choice.layer, options.exclude):
                raise LayerError(f"the plan replaces {choice.layer!r}, which exclude leaves dense: drop it from one")
        all_candidates = candidates_of_plan(dense, layers, goal.plan)
    refused: dict[str, str] = {}
    if not goal.is_met_by(now):
        all_candidates = start.cheaper_than_now(all_candidates, layers)
        all_candidates, refused = time_candidates(all_candidates, layers, goal, options, show, start.stages)
    if start.number == 1 and not start.is_last:
        search_space(target, all_candidates, dense, now, refused)  # what no round can reach is refused before the first
    space = search_space(goal, all_candidates, dense, now, refused)
    evaluator = PlanEvaluator(dense, task, layers, options, show, start.chains)
    digest = _digest(dense, task, all_candidates, options, goal, example)
    path = options.work / TrialRecord.file if options.work else None
    trials = open_trials(digest, all_candidates, storage=options.storage, path=path, resume=options.resume)
    words = task.words
    allowed = goal.allowed_drop(options.finetune_recovery_factor, words, evaluator.dense_score)
    if goal.plan is None:
        evaluator.measure_inputs(all_candidates)
    clock.lap("inspect")
    return SearchSetup(
        start,
        goal,
        evaluator,
        replace(space, allowed=allowed, unit=words.drop_unit),
        trials,
        digest,
        example,
        cost,
        clock,
    )


def search_space(
    target: Target,
    all_candidates: tuple[RankCandidates, ...],
    model: nn.Module,
    dense: Cost,
    refused: Mapping[str, str] | None = None,
) -> SearchSpace:
    """The search space as far as it is known before anything is scored.

    Args:
        target: what is asked.
        all_candidates: of all layers.
        model: whose layers they are.
        dense: cost of the network that the search begins with.
        refused: why a layer has no candidates, by its name.

    Raises:
        BudgetError: no plan keeps the budget; says what is the best that is possible.
    """
    names = {candidates.layer for candidates in all_candidates}
    sizes = [layer_at(model, name)[1].element_size() for name in names]
    space = SearchSpace(all_candidates, 0.0, dense, target.budget, math.inf, min(sizes, default=4), refused or {})
    cheapest = cheapest_plan(space)  # the plan itself where one was given
    if target.budget is not None and not space.admits(cheapest):
        raise BudgetError(_out_of_reach(space, target.budget, cheapest, given=target.plan is not None))
    return space


def as_task(
    judge: Judge,
    model: nn.Module,
    *,
    validation: Samples | None = None,
    metric: Callable[[nn.Module], Any] | Metric | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    forward: Forward | None = None,
    compare: Compare | None = None,
) -> Task:
    """The task that ``judge`` is, or is made into.

    Args:
        judge: see :data:`Judge`.
        model: the dense network, whose outputs others are compared with where there are samples.
        validation: samples that choose and judge.
        metric: a score of the user's own, beside samples.
        loss: of outputs and batch, beside samples.
        forward: from network and batch to outputs, beside samples.
        compare: how outputs are compared, beside samples.

    Raises:
        PolyadicError: it is nothing by which a network can be judged, or what is given beside it goes with samples.
        DataError: the samples cannot be used.
    """
    given = {"validation": validation, "metric": metric, "loss": loss, "forward": forward, "compare": compare}
    beside = [name for name, value in given.items() if value is not None]
    if isinstance(judge, Task | ImageData) or _is_score(judge):
        if beside:
            raise PolyadicError(
                f"{', '.join(beside)} {'goes' if len(beside) == 1 else 'go'} with samples (a DataLoader); got "
                f"{type(judge).__name__} as data, which says by itself how a network is scored: leave one of them out"
            )
        if isinstance(judge, Task):
            return judge
        return ImageTask(judge) if isinstance(judge, ImageData) else ScoreTask(judge)
    no_samples = isinstance(judge, str | bytes | Path | type | nn.Module | Mapping)
    if not no_samples and (callable(judge) or isinstance(judge, Iterable | Dataset)):
        samples = cast(Samples, judge)
        return SampleTask(
            model,
            samples,
            validation=validation,
            metric=metric,
            loss=loss,
            forward=forward,
            compare=compare or "squares",
        )
    kind = judge.__name__ if isinstance(judge, type) else type(judge).__name__
    if isinstance(judge, str | Path):
        advice = f"load them with polyadic.data.load_data({str(judge)!r})"
    elif is_fed(judge):
        advice = "it is fed with outputs and labels: pass samples that hold them as data, and it as metric="
    elif isinstance(judge, type):
        advice = f"make one, {kind}(...)"
    elif isinstance(judge, Mapping):
        advice = "a dict is one batch; pass a list of them, or a DataLoader"
    else:
        advice = "pass DataLoader(inputs, batch_size=32) with a few hundred inputs"
    raise PolyadicError(
        "a network is judged by samples (a DataLoader or another iterable of batches), by ImageData, by a Task, or by "
        f"a function from a model to its score; got {kind}: {advice}"
    )


def _is_score(judge: object) -> TypeGuard[Callable[[nn.Module], float]]:
    """Whether it is called with the model; a function without arguments begins a generator of samples."""
    if not callable(judge) or isinstance(judge, nn.Module | type | Iterable | Dataset):
        return False
    try:
        return bool(inspect.signature(judge).parameters)
    except ValueError:  # built in, so that nothing is known of its arguments
        return True


def example_for(model: nn.Module, task: Task, example_input: Inputs | None) -> Inputs:
    """What the network takes, where it is.

    Raises:
        LayerError: there is none.
    """
    example = example_input if example_input is not None else task.example_input()
    if example is None:
        raise LayerError("finding layers takes an example input; got none: pass example_input, a batch of one")
    if not isinstance(example, Tensor | tuple | Mapping) or not any(tensor.dim() for tensor in tensors_in(example)):
        raise LayerError(
            "example_input is what the network takes: a tensor (N, ...), a tuple of inputs by position, or a dict of "
            f"inputs by name; got a {type(example).__name__}"
        )
    return on_device(example, device_of(model))


def _cost_now(start: Round, example: Inputs, cost: Cost, options: CompressOptions) -> Cost:
    """Of the network that the round begins with."""
    if start.network is start.origin:
        return cost
    if start.latency is None:
        return measure_cost(start.network, example, options)
    return replace(measure_cost(start.network, example, replace(options, latency=None)), latency=start.latency)


def _digest(
    dense: nn.Module,
    task: Task,
    all_candidates: tuple[RankCandidates, ...],
    options: CompressOptions,
    target: Target,
    example: Inputs,
) -> str:
    """SHA-256 of everything that decides the trials: weights, data, options, geometry."""
    shapes = sample_shapes(example)
    parts = (
        all_candidates,
        (target.max_drop, target.budget, target.plan, options.candidates_per_layer),
        (options.latency, options.require_speedup),
        (options.max_drop_per_layer, options.finetune_recovery_factor, options.seed),
        (options.data_aware, options.moment_batches),
        repr(target.search),
        repr(options.sequential),
        shapes[0] if len(shapes) == 1 else shapes,
        {key: value for key, value in task.provenance().items() if key not in AFTER_THE_SEARCH},
    )
    digest = hashlib.sha256(repr(parts).encode())
    for name, tensor in sorted(dense.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _out_of_reach(space: SearchSpace, budget: Budget, cheapest: Plan, *, given: bool) -> str:
    cost = space.cost(cheapest)
    best = ", ".join(
        f"{name} {format_cost(name, getattr(cost, name))} "
        f"({100 * getattr(cost, name) / (getattr(space.dense, name) or 1):.1f} %)"
        for name in budget.limits
    )
    if given:
        return f"the budget is {budget}; with the given plan the network costs {best}: allow more, or change the plan"
    return (
        f"the budget is {budget}; with every layer at its lowest rank the network still costs {best}: allow more, or "
        "give formats that go lower"
        + (", or --round-to 1, or --no-require-speedup" if space.dense.latency is not None else "")
    )
