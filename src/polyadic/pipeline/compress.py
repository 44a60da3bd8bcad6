"""The whole story: a network and images in, a smaller network proven as good out (Phan et al. 2020, section 3)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from polyadic.costing import network_cost
from polyadic.data import ImageData
from polyadic.errors import BudgetError, LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers import device_of
from polyadic.pipeline.options import CompressionResult, CompressOptions, OnProgress
from polyadic.pipeline.outcome import MACS_CONVENTION, environment, outcome_of, warnings_of
from polyadic.pipeline.problem import check_request, ladders_of, run_digest
from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Plan, Summary
from polyadic.search import Ladder, Problem, TrialLog, relaxed
from polyadic.surgery import check_finite, find_sites
from polyadic.training import ImageTask, ScoreTask, Task

CHECKPOINT = ".finetune.pt"
STEPS = 16  # of the relaxation

_Reached = tuple[Problem, Plan, nn.Module, dict[str, FactoredKernel]]


def compress(
    model: nn.Module,
    data: ImageData | Task | Callable[[nn.Module], float],
    example_input: Tensor | None = None,
    *,
    max_drop: float,
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> CompressionResult:
    """Make ``model`` smaller at a loss of at most ``max_drop`` points of score.

    Finds the layers, searches format and rank for each (the drop of every single layer, after its own fine-tuning,
    stays within EPS), replaces them all, re-estimates batch-norm statistics if that helps, fine-tunes the whole and
    scores dense and compressed network on the test images, once, at the end. The given model is left as it was.

    Args:
        model: any classifier, (N, ...) to (N, classes), or any module if ``data`` is a score function.
        data: images; or a task with its own training options; or a function from a model to its score (higher is
            better, a point is 0.01), in which case nothing is trained.
        example_input: a batch (N, ...); needed with a score function only.
        max_drop: points of score that may be lost.
        formats: names of the formats to choose from.
        options: everything else.
        on_progress: called at every step.

    Raises:
        LayerError: the model cannot be run or compressed, or a format is unknown.
        BudgetError: no layer can be made cheaper within the drop.
        PolyadicError: weights that are not finite, a log of another run, a full disk.
    """
    options = options or CompressOptions()
    task = _task_of(data)
    check_request(max_drop, formats, options)
    example = example_input if example_input is not None else task.example_input()
    if example is None:
        raise LayerError("finding layers takes an example input; got none: pass example_input, a batch of one sample")
    check_finite(model)
    clock = _Clock()
    dense = copy.deepcopy(model).eval()
    example = example.to(device_of(dense))
    sites = find_sites(dense, example)
    ladders = ladders_of(dense, sites, formats, options)
    workshop = Workshop(dense, task, sites, options, on_progress)
    digest = run_digest(dense, task, ladders, options, max_drop, example)
    journal = TrialLog(options.work / "trials.jsonl" if options.work else None, digest, resume=options.resume)
    workshop.measure_inputs(ladders)
    clock.lap("inspect")

    problem, plan, compressed, kernels = _within_reach(workshop, ladders, journal, max_drop)
    clock.lap("search")
    untuned = copy.deepcopy(compressed)
    held_out = {"dense": workshop.dense_score, "before_finetuning": task.score(compressed)}
    report = task.tune_network(compressed, dense, workshop.epoch, options.work / CHECKPOINT if options.work else None)
    held_out["compressed"] = report.best.value if report is not None else held_out["before_finetuning"]
    clock.lap("finetune")
    final = task.final_scores((dense, untuned, compressed))
    clock.lap("test")
    summary = Summary(
        dense=network_cost(dense, example),
        compressed=network_cost(compressed, example),
        dense_score=final.values[0],
        compressed_score=final.values[2],
        score_before_finetuning=final.values[1],
        score_name=task.score_name,
        max_drop=max_drop,
        drop_interval=final.drop_interval,
        held_out=held_out,
        plan=plan,
        layers=tuple(outcome_of(site, plan, problem, kernels, formats) for site in sites),
        seconds=clock.laps,
        provenance={
            **environment(),
            **task.provenance(),
            "seed": options.seed,
            "eps": problem.threshold,
            "formats": list(formats),
            "exclude": list(options.exclude),
            "data_aware": options.data_aware,
            "recoverable": options.recoverable,
            "search": repr(options.search),
            "trials": len(journal.trials),
            "finetuning_stop": report.stop.value if report is not None else "not fine-tuned",
            "finetuning": [vars(record) for record in report.history] if report is not None else [],
            "macs_convention": MACS_CONVENTION,
        },
    )
    return CompressionResult(compressed.eval(), dense, replace(summary, warnings=warnings_of(summary)), example[:1])


def _within_reach(workshop: Workshop, ladders: tuple[Ladder, ...], journal: TrialLog, max_drop: float) -> _Reached:
    """Search, then give ranks back to all layers until fine-tuning can win back what the whole network loses.

    Losses of single layers add up, so ranks that suit each layer alone may ruin the whole. The smallest share of ranks
    that has to be given back is found by bisection. A threshold that the user gave is taken at its word.

    Raises:
        BudgetError: no layer passes, or the network is out of reach whatever is given back.
    """
    options = workshop.options
    allowed = options.recoverable * max_drop
    share = min(max_drop, allowed / len({ladder.layer for ladder in ladders}))
    problem = Problem(ladders, options.eps if options.eps is not None else share)
    tightest = workshop.search(problem, journal)
    if not tightest.choices:
        raise BudgetError(
            f"no layer can be made cheaper with at most {problem.threshold:g} points lost on the held-out images "
            f"(tried: {len(ladders)} pairs of layer and format): allow a larger drop, or other formats"
        )
    plan = tightest
    if options.eps is None:
        lost = workshop.joint_drop(plan, journal)
        plan = plan if lost <= allowed else _given_back(workshop, plan, ladders, journal, (lost, allowed))
    return problem, plan, *workshop.carry_out(plan)


def _given_back(
    workshop: Workshop, tightest: Plan, ladders: tuple[Ladder, ...], journal: TrialLog, drops: tuple[float, float]
) -> Plan:
    """The cheapest relaxation, in sixteenths, of ``tightest``: ``drops`` are what that loses and what is allowed."""
    lost, allowed = drops
    # the drop falls about as exp(-6 share): begin there, double while it fails, bisect once it has passed
    guess = STEPS * math.log(lost / allowed) / 6.0 if allowed > 0 else STEPS / 2
    fails, passes, step = 0, STEPS + 1, min(max(round(guess), 1), STEPS)
    best, least = tightest, lost
    while passes - fails > 1:
        plan = relaxed(tightest, ladders, step / STEPS)
        lost = workshop.joint_drop(plan, journal)
        least = min(least, lost)
        if lost <= allowed:
            passes, best = step, plan
        else:
            fails = step
        step = min(2 * fails, STEPS) if passes > STEPS else (fails + passes) // 2
        if fails == STEPS:
            raise BudgetError(
                f"before fine-tuning the whole network may lose {allowed:g} points on the held-out images; it loses "
                f"{least:.2f} even at the highest ranks: allow a larger drop, exclude layers, or give eps yourself"
            )
    return best


class _Clock:
    """Seconds of each part of the run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _task_of(data: ImageData | Task | Callable[[nn.Module], float]) -> Task:
    if isinstance(data, Task):
        return data
    return ImageTask(data) if isinstance(data, ImageData) else ScoreTask(data)
