"""What a search and a compression have in common: the network taken in, the question stated, the log opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.errors import LayerError
from polyadic.layers import device_of
from polyadic.pipeline.all_candidates import candidates_of_plan, find_candidates
from polyadic.pipeline.options import CompressOptions, OnProgress
from polyadic.pipeline.reach import Reached, run_search
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.space import Asked, Request, run_digest
from polyadic.pipeline.speed import LatencyCheck, LatencyResult, in_time
from polyadic.pipeline.timed_ladders import on_engine, timed_cost
from polyadic.pipeline.whole_plans import Prover
from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Cost, Plan
from polyadic.search import RankCandidates, SearchSpace, StudyLog, TrialLog, TrialStore
from polyadic.surgery import find_layers, network_cost
from polyadic.training import ImageTask, ScoreTask, Task

Judge = ImageData | Task | Callable[[nn.Module], float]
"""By what a network is judged: images, a task, or a function from a model to its score."""


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
class Run:
    """A network that is taken in, and what is asked of it.

    Attributes:
        round: the dense network as it came, and what the rounds before this one have left.
        workshop: holds the network that this round begins with, as plain layers.
        example: a batch, where the network is.
        cost: of the dense network.
        request: what was asked, checked.
        problem: all ranks of all candidates; those of the plan where there is one.
        journal: of the trials.
        digest: of everything that decides them.
        clock: running since the network was taken in.
    """

    round: Round
    workshop: Workshop
    example: Tensor
    cost: Cost
    request: Request
    space: SearchSpace
    journal: TrialStore
    digest: str
    clock: Clock = field(default_factory=Clock)

    @staticmethod
    def begin(
        stage: Round,
        judge: Judge,
        example: Tensor | None,
        asked: Asked,
        options: CompressOptions,
        on_progress: OnProgress,
    ) -> Run:
        """Take the network in; see :func:`polyadic.compress` for the arguments and what it raises."""
        clock, task = Clock(), task_of(judge).share(stage.number, stage.count)
        example = example if example is not None else task.example_input()
        if example is None:
            raise LayerError("finding layers takes an example input; got none: pass example_input, a batch of one")
        dense = stage.dense
        example = example.to(device_of(dense))
        sites = find_layers(dense, example)
        cost, now = _costs(stage, example, options)
        whole = Request.of(asked, options, cost)
        request = replace(whole, budget=stage.budget(whole.budget, cost))
        if request.plan is None:
            all_candidates = find_candidates(dense, sites, request.formats, options)
        else:
            all_candidates = candidates_of_plan(dense, sites, request.plan)
        refused: dict[str, str] = {}
        if not _is_met(request, now):
            all_candidates = stage.below(all_candidates, sites)
            all_candidates, refused = on_engine(all_candidates, sites, options, request, on_progress, stage.standing)
        if stage.number == 1 and not stage.is_last:
            whole.space(all_candidates, dense, now, refused)  # what no round can reach is refused before the first one
        space = request.space(all_candidates, dense, now, refused)
        workshop = Workshop(dense, task, sites, options, on_progress, stage.chains)
        digest = run_digest(dense, task, all_candidates, options, request, example)
        journal = _journal(options, digest, all_candidates)
        space = replace(space, allowed=request.allowed(options.finetune_recovery_factor, workshop.dense_score))
        if request.plan is None:
            workshop.measure_inputs(all_candidates)
        clock.lap("inspect")
        return Run(stage, workshop, example, cost, request, space, journal, digest, clock)

    @cached_property
    def origin_score(self) -> float:
        """The dense network's, on the held-out images."""
        workshop, origin = self.workshop, self.round.origin
        return workshop.dense_score if workshop.dense is origin else workshop.task.score(origin)

    def reach(self) -> tuple[Reached, Prover]:
        """The plan that was given, or the one that a search finds; and by whom plans are tried.

        Raises:
            BudgetError: no plan keeps the drop.
        """
        prover = Prover(self.workshop)
        if self.request.plan is not None:
            reached = Reached(self.space, self.request.plan, "a plan was given")
        elif _is_met(self.request, self.space.dense):
            reached = Reached(self.space, Plan(), "the rounds before have met the budget")
        else:
            reached = run_search(prover, self.space, self.journal, self.request)
        if self.track is None:
            return reached, prover
        required = self.workshop.options.require_speedup
        return reached.timed(in_time(self.track, reached.plan, reached.again, require_speedup=required)), prover

    @cached_property
    def track(self) -> LatencyCheck | None:
        """Where plans are timed; None where no engine was named."""
        model, stage = self.workshop.options.latency, self.round
        if model is None:
            return None
        return LatencyCheck(model, stage.origin, self.example, self.space, self.cost.latency, stage.merged)

    def final_speed(self, reached: Reached, network: nn.Module) -> LatencyResult | None:
        """That of the network that went out, timed against the dense one; None where no engine was named."""
        if self.track is None or reached.speed is None:
            return None
        required = self.workshop.options.require_speedup
        return self.track.final(reached.speed, network, require_speedup=required)

    def provenance(self, reached: Reached) -> dict[str, object]:
        """What was asked, and how the search ended."""
        options, request = self.workshop.options, self.request
        return {
            "seed": options.seed,
            "eps": reached.space.threshold if request.search.tunes_layers and request.plan is None else None,
            "formats": list(request.formats),
            "exclude": list(options.exclude),
            "data_aware": options.data_aware,
            "recoverable": options.finetune_recovery_factor,
            "budget": str(request.budget) if request.budget is not None else None,
            "search": None if request.plan is not None else repr(request.search),
            "search_stop": reached.stop,
            **({"latency": {"where": str(options.latency), **reached.speed.to_json()}} if reached.speed else {}),
            "trials": len(self.journal.trials),
        }


def task_of(judge: Judge) -> Task:
    """The task that ``judge`` is, or is made into."""
    if isinstance(judge, Task):
        return judge
    return ImageTask(judge) if isinstance(judge, ImageData) else ScoreTask(judge)


def _costs(stage: Round, example: Tensor, options: CompressOptions) -> tuple[Cost, Cost]:
    """Of the dense network, and of the one that the round begins with.

    Raises:
        EngineError: the engine cannot be used, or does not run the network.
    """
    cost, now = (network_cost(network, example) for network in (stage.origin, stage.network))
    cost = timed_cost(cost, stage.origin, example, options)
    if stage.latency is not None:
        return cost, replace(now, latency=stage.latency)
    return cost, timed_cost(now, stage.network, example, options)


def _is_met(request: Request, cost: Cost) -> bool:
    """Whether nothing has to be found: a first round is refused such a budget, a later one may begin within its own."""
    return request.plan is None and request.budget is not None and request.budget.admits(cost)


def _journal(options: CompressOptions, digest: str, all_candidates: tuple[RankCandidates, ...]) -> TrialStore:
    if options.storage is not None:
        return StudyLog(options.storage, digest, all_candidates)
    return TrialLog(options.work / "trials.jsonl" if options.work else None, digest, resume=options.resume)
