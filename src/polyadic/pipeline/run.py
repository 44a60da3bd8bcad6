"""What a search and a compression have in common: the network taken in, the question stated, the log opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from polyadic.costing import network_cost
from polyadic.data import ImageData
from polyadic.errors import LayerError
from polyadic.layers import device_of
from polyadic.pipeline.ladders import ladders_of, ladders_of_plan
from polyadic.pipeline.options import CompressOptions, OnProgress
from polyadic.pipeline.problem import Asked, Request, run_digest
from polyadic.pipeline.reach import Reached, reach
from polyadic.pipeline.whole_plans import Prover
from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Cost
from polyadic.search import Journal, Ladder, Problem, StudyLog, TrialLog
from polyadic.surgery import check_finite, copied, find_sites
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
        workshop: holds a copy of the network, which is left as it was.
        example: a batch, where the network is.
        cost: of the dense network.
        request: what was asked, checked.
        problem: all ranks of all candidates; those of the plan where there is one.
        journal: of the trials.
        clock: running since the network was taken in.
    """

    workshop: Workshop
    example: Tensor
    cost: Cost
    request: Request
    problem: Problem
    journal: Journal
    clock: Clock = field(default_factory=Clock)

    @staticmethod
    def begin(
        model: nn.Module,
        judge: Judge,
        example: Tensor | None,
        asked: Asked,
        options: CompressOptions,
        on_progress: OnProgress,
    ) -> Run:
        """Take the network in; see :func:`polyadic.compress` for the arguments and what it raises."""
        clock, task = Clock(), _task_of(judge)
        example = example if example is not None else task.example_input()
        if example is None:
            raise LayerError("finding layers takes an example input; got none: pass example_input, a batch of one")
        check_finite(model)
        dense = copied(model).eval()
        example = example.to(device_of(dense))
        sites, cost = find_sites(dense, example), network_cost(dense, example)
        request = Request.of(asked, options, cost)
        if request.plan is None:
            ladders = ladders_of(dense, sites, request.formats, options)
        else:
            ladders = ladders_of_plan(dense, sites, request.plan)
        problem = request.problem(ladders, dense, cost)
        workshop = Workshop(dense, task, sites, options, on_progress)
        digest = run_digest(dense, task, ladders, options, request, example)
        journal = _journal(options, digest, ladders)
        problem = replace(problem, allowed=request.allowed(options.recoverable, workshop.dense_score))
        if request.plan is None:
            workshop.measure_inputs(ladders)
        clock.lap("inspect")
        return Run(workshop, example, cost, request, problem, journal, clock)

    def reach(self) -> tuple[Reached, Prover]:
        """The plan that was given, or the one that a search finds; and by whom plans are tried.

        Raises:
            BudgetError: no plan keeps the drop.
        """
        prover = Prover(self.workshop)
        if self.request.plan is not None:
            return Reached(self.problem, self.request.plan, "a plan was given"), prover
        return reach(prover, self.problem, self.journal, self.request), prover

    def provenance(self, reached: Reached) -> dict[str, object]:
        """What was asked, and how the search ended."""
        options, request = self.workshop.options, self.request
        return {
            "seed": options.seed,
            "eps": reached.problem.threshold if request.search.tunes_layers and request.plan is None else None,
            "formats": list(request.formats),
            "exclude": list(options.exclude),
            "data_aware": options.data_aware,
            "recoverable": options.recoverable,
            "budget": str(request.budget) if request.budget is not None else None,
            "search": None if request.plan is not None else repr(request.search),
            "search_stop": reached.stop,
            "trials": len(self.journal.trials),
        }


def _task_of(judge: Judge) -> Task:
    if isinstance(judge, Task):
        return judge
    return ImageTask(judge) if isinstance(judge, ImageData) else ScoreTask(judge)


def _journal(options: CompressOptions, digest: str, ladders: tuple[Ladder, ...]) -> Journal:
    if options.storage is not None:
        return StudyLog(options.storage, digest, ladders)
    return TrialLog(options.work / "trials.jsonl" if options.work else None, digest, resume=options.resume)
