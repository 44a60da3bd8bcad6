"""The whole story: a network and images in, a smaller network proven as good out (Phan et al. 2020, section 3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from polyadic.costing import network_cost
from polyadic.formats import FactoredKernel
from polyadic.pipeline.options import CompressionResult, CompressOptions, OnProgress
from polyadic.pipeline.outcome import MACS_CONVENTION, environment, outcome_of, warnings_of
from polyadic.pipeline.problem import Asked
from polyadic.pipeline.reach import Reached
from polyadic.pipeline.run import Judge, Run
from polyadic.schema import Plan, Summary
from polyadic.training import FinalScores, FinetuneReport

CHECKPOINT = ".finetune.pt"


def compress(
    model: nn.Module,
    data: Judge,
    example_input: Tensor | None = None,
    *,
    max_drop: float | str | None = None,
    budget: Sequence[str] = (),
    plan: Plan | None = None,
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> CompressionResult:
    """Make ``model`` smaller at a loss of at most ``max_drop`` points, or as good as it can be within a ``budget``.

    Finds the layers, searches format and rank for each, replaces them all, re-estimates batch-norm statistics if that
    helps, fine-tunes the whole and scores dense and compressed network on the test images, once, at the end. The given
    model is left as it was.

    Args:
        model: any classifier, (N, ...) to (N, classes), or any module if ``data`` is a score function.
        data: images; or a task with its own training options; or a function from a model to its score (higher is
            better, a point is 0.01), in which case nothing is trained.
        example_input: a batch (N, ...); needed with a score function only.
        max_drop: points of score that may be lost, or text: "0.5%" is that share of the dense network's score on the
            held-out images. Without a budget the smallest network within it is looked for; with one, or with a plan,
            it is what the result is measured by.
        budget: what the network may cost, such as ``["macs=50%", "params=200k"]``; see :meth:`Budget.parse`.
        plan: carried out as it is; nothing is searched.
        formats: names of the formats to choose from.
        options: everything else.
        on_progress: called at every step.

    Raises:
        LayerError: the model cannot be run or compressed, a format is unknown, or the plan does not fit the model.
        BudgetError: neither a drop nor a budget nor a plan, no layer can be made cheaper within the drop, or no network
            fits into the budget.
        PolyadicError: weights that are not finite, a log of another run, a full disk.
    """
    asked = Asked(max_drop, tuple(budget), tuple(formats), plan)
    run = Run.begin(model, data, example_input, asked, options or CompressOptions(), on_progress)
    workshop, task, work = run.workshop, run.workshop.task, run.workshop.options.work
    reached, _ = run.reach()
    compressed, kernels = workshop.carry_out(reached.plan)
    run.clock.lap("search")
    untuned = copy.deepcopy(compressed)
    held_out = {"dense": workshop.dense_score, "before_finetuning": task.score(compressed)}
    report = task.tune_network(compressed, workshop.dense, workshop.epoch, work / CHECKPOINT if work else None)
    held_out["compressed"] = report.best.value if report is not None else held_out["before_finetuning"]
    run.clock.lap("finetune")
    final = task.final_scores((workshop.dense, untuned, compressed))
    run.clock.lap("test")
    summary = _summary(run, reached, kernels, final, report, compressed, held_out)
    return CompressionResult(compressed.eval(), workshop.dense, summary, run.example[:1])


def _summary(
    run: Run,
    reached: Reached,
    kernels: dict[str, FactoredKernel],
    final: FinalScores,
    report: FinetuneReport | None,
    compressed: nn.Module,
    held_out: dict[str, float],
) -> Summary:
    """All of it that is not a tensor."""
    request, workshop = run.request, run.workshop
    drop, options = request.max_drop, workshop.options
    summary = Summary(
        dense=run.cost,
        compressed=network_cost(compressed, run.example),
        dense_score=final.values[0],
        compressed_score=final.values[2],
        score_before_finetuning=final.values[1],
        score_name=workshop.task.score_name,
        max_drop=None if drop is None else drop.points(workshop.dense_score),
        drop_interval=final.drop_interval,
        held_out=held_out,
        plan=reached.plan,
        layers=tuple(
            outcome_of(site, kernels.get(site.name), request, reached.problem, options)
            for site in workshop.sites.values()
        ),
        seconds=run.clock.laps,
        provenance={**environment(), **workshop.task.provenance(), **run.provenance(reached), **_finetuning(report)},
    )
    return replace(summary, warnings=warnings_of(summary))


def _finetuning(report: FinetuneReport | None) -> dict[str, object]:
    """What the fine-tuning of the whole network said."""
    return {
        "finetuning_stop": report.stop.value if report is not None else "not fine-tuned",
        "finetuning": [vars(record) for record in report.history] if report is not None else [],
        "macs_convention": MACS_CONVENTION,
    }
