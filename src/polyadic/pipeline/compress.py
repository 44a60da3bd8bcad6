"""The whole story: a network and images in, a smaller network proven as good out (Phan et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from polyadic.pipeline.carried import Carried, carried_through, next_round, numbered
from polyadic.pipeline.options import CompressionResult, CompressOptions, OnProgress
from polyadic.pipeline.outcome import environment, warnings_of
from polyadic.pipeline.rounds import Round, check_rounds
from polyadic.pipeline.run import Judge, Run
from polyadic.pipeline.space import Asked
from polyadic.schema import Plan, Summary
from polyadic.search import concluding
from polyadic.surgery import MACS_CONVENTION, network_cost
from polyadic.training import FinalScores, FinetuneReport


def compress(
    model: nn.Module,
    data: Judge,
    example_input: Tensor | None = None,
    *,
    max_drop: float | str | None = None,
    budget: Sequence[str] = (),
    plan: Plan | None = None,
    formats: Sequence[str] = ("cp-epc", "svd"),
    rounds: int = 1,
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
        rounds: factorise and fine-tune so many times, each time further on the way to the budget; the epochs are
            divided among them (MUSCO, :mod:`polyadic.pipeline.rounds`).
        options: everything else.
        on_progress: called at every step.

    Raises:
        LayerError: the model cannot be run or compressed, a format is unknown, or the plan does not fit the model.
        BudgetError: neither a drop nor a budget nor a plan, no layer can be made cheaper within the drop, or no network
            fits into the budget; several rounds without a budget, with a plan, or with a storage.
        ConcludedElsewhereError: another worker of the same storage carries out the plan.
        PolyadicError: weights that are not finite, a log of another run, a full disk.
    """
    options = options or CompressOptions()
    asked = Asked(max_drop, tuple(budget), tuple(formats), plan)
    check_rounds(rounds, asked.budget, plan, options.storage)
    stage = Round.first(model, rounds)
    while not stage.is_last:
        stage = next_round(stage, data, example_input, asked, options, on_progress)
    run = Run.begin(stage, data, example_input, asked, options, numbered(on_progress, stage))
    reached, _ = run.reach()
    whole = f"{run.digest} {run.workshop.task.provenance()}"
    with concluding(options.storage, whole, where=str(options.work or ""), again=options.resume):
        carried = carried_through(run, reached)
        final = run.workshop.task.final_scores((stage.origin, carried.untuned, carried.network))
    run.clock.lap("test")
    summary = _summary(run, carried, final)
    return CompressionResult(carried.network, stage.origin, summary, run.example[:1])


def _summary(run: Run, carried: Carried, final: FinalScores) -> Summary:
    """All of it that is not a tensor."""
    drop, task, rounds = run.request.max_drop, run.workshop.task, run.round.history
    cost, speed = network_cost(carried.network, run.example), run.final_speed(carried.reached, carried.network)
    if speed is not None:
        cost = replace(cost, latency=speed.measured)
        carried = replace(carried, reached=carried.reached.timed(speed))
    if run.round.count > 1:
        rounds = (*rounds, carried.said(run))
    summary = Summary(
        dense=run.cost,
        compressed=cost,
        dense_score=final.values[0],
        compressed_score=final.values[2],
        score_before_finetuning=final.values[1],
        score_name=task.score_name,
        max_drop=None if drop is None else drop.points(run.origin_score),
        drop_interval=final.drop_interval,
        held_out=carried.held_out,
        plan=carried.plan,
        layers=tuple(carried.outcomes(run).values()),
        seconds=_seconds([*(said["seconds"] for said in run.round.history), run.clock.laps]),
        provenance={
            **environment(),
            **task.provenance(),
            **run.provenance(carried.reached),
            **_finetuning(carried.report),
            **({"rounds": list(rounds)} if rounds else {}),
        },
    )
    return replace(summary, warnings=(*warnings_of(summary), *(speed.warnings if speed is not None else ())))


def _seconds(laps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each part, over all rounds."""
    parts = dict.fromkeys(part for lap in laps for part in lap)
    return {part: round(sum(lap.get(part, 0.0) for lap in laps), 3) for part in parts}


def _finetuning(report: FinetuneReport | None) -> dict[str, object]:
    """What the fine-tuning of the whole network said."""
    return {
        "finetuning_stop": report.stop.value if report is not None else "not fine-tuned",
        "finetuning": [vars(record) for record in report.history] if report is not None else [],
        "macs_convention": MACS_CONVENTION,
    }
