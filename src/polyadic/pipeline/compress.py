"""The whole story: a network and images in, a smaller network proven as good out (Phan et al. 2020, section 3)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.layers import Inputs, first_samples
from polyadic.pipeline.finetune import finetune
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.rounds import Round, check_rounds
from polyadic.pipeline.search import run_search
from polyadic.pipeline.setup import Judge, SearchSetup, as_task, example_for, prepare_search
from polyadic.pipeline.summarise import RoundResult, summarise
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost
from polyadic.schema import NotebookResult, Plan, Summary
from polyadic.storage import remove_partial
from polyadic.surgery import is_separate, pack_projections, separate_for_good
from polyadic.training import Compare, Forward, Metric, Samples, check_gradients
from polyadic.training.several_processes import several_processes
from polyadic.training.snapshot import Checkpoint, weights_digest

FINETUNE_STATE, ROUND_STATE = ".finetune.pt", "network.pt"
"""Files in the work folder: where fine-tuning goes on, and the network that a round has left."""


CHANGED = (
    "the network was changed after it was scored, by training for instance, so that its score is not known: score it "
    "again, with polyadic evaluate or in code, and give it with dataclasses.replace(result, summary=..., "
    "scored_weights='')"
)
UNREPORTED = "trained, without a report"
"""How fine-tuning ended where a task has trained the network and returned nothing."""


@dataclass(frozen=True, eq=False)
class CompressionResult(NotebookResult):
    """The networks and everything that is known of them.

    Attributes:
        model: the compressed network, in evaluation mode, out of plain torch layers.
        dense: a copy of the network as it came.
        summary: costs, scores, plan, layers, provenance.
        example_input: what the network takes, a batch of one sample.
        scored_weights: digest of the compressed network as ``summary`` describes it; training of one's own changes it.
    """

    model: nn.Module
    dense: nn.Module
    summary: Summary
    example_input: Inputs
    scored_weights: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        """The network comes as it was scored, unless somebody says what it was then."""
        if not self.scored_weights:
            object.__setattr__(self, "scored_weights", weights_digest(self.model))

    def summary_now(self) -> Summary:
        """The summary; where the network has changed since it was scored, without the scores that it had before."""
        if weights_digest(self.model) == self.scored_weights:
            return self.summary
        held_out = {**self.summary.held_out, "compressed": math.nan}
        warnings = (*self.summary.warnings, CHANGED)
        return replace(
            self.summary, compressed_score=math.nan, drop_interval=None, held_out=held_out, warnings=warnings
        )

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.summary.plan

    def _shown(self) -> Summary:
        return self.summary


def compress(
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
    plan: Plan | None = None,
    formats: Sequence[str] = ("cp-epc", "svd"),
    rounds: int = 1,
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> CompressionResult:
    """Make ``model`` smaller at a loss of at most ``max_drop``, or as good as it can be within a ``budget``.

    Finds the layers, searches format and rank for each, replaces them all, re-estimates batch-norm statistics if that
    helps, fine-tunes the whole and scores dense and compressed network on the test images, once, at the end. The given
    model is left as it was.

    Example::

        loader = DataLoader(inputs, batch_size=16)  # without labels: outputs are compared with the dense network's
        result = polyadic.compress(model, loader, budget=["macs=50%"])

    Args:
        model: any module; a classifier, (N, ...) to (N, classes), if ``data`` is images.
        data: samples, labelled or not: a DataLoader, a list of batches, a function that begins a generator
            (:class:`polyadic.training.SampleTask` says what a batch is); or images with labels; or a task with its own
            training options; or a function from a model to its score (higher is better) or a metric, in which case
            nothing is trained and the layers see no data.
        example_input: what the network takes: a batch (N, ...), a tuple of inputs by position, or a dict by name;
            needed with a score function only.
        validation: with samples: others, that choose the ranks and judge the result; without it a part of the samples.
        metric: with samples: from a model in evaluation mode to one number of which more is better, such as its PSNR on
            validation images; or a :class:`polyadic.Metric`, which has a unit and a direction, or a
            ``torchmetrics.Metric``. It takes the place of the comparison of outputs as the score.
        loss: with samples: of the outputs and a batch as the loader gave it, labels included; the fine-tuning follows
            it beside the dense network's outputs.
        forward: with samples: ``forward(model, batch)`` gives the outputs, where the network's own forward does not say
            what of a batch it takes (:func:`polyadic.training.inputs_of`).
        compare: with samples: outputs by their "squares" (the default), or logits by the "divergence" of their
            probabilities (:func:`polyadic.distillation_loss`).
        max_drop: what may be lost: points of an accuracy or of the outputs' R^2 (hundredths), else a number in the
            unit of the metric; or text: "0.5%" is that share of the dense network's score on the held-out samples.
            Without a budget the smallest network within it is looked for; with one, or with a plan, it is what the
            result is measured by.
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
            fits into the budget; several rounds without a budget or with a plan.
        DataError: the samples cannot be used: none, too few, of several sizes, NaN or Inf.
        PolyadicError: data that judges no network, a storage of workers, several processes of a launcher, weights that
            are not finite, a log of another run, a full disk.
    """
    options = options or CompressOptions()
    check_rounds(rounds, budget, plan)
    _refuse_sharing(options)
    start = Round.first(model, rounds)
    task = as_task(
        data, start.origin, validation=validation, metric=metric, loss=loss, forward=forward, compare=compare
    )
    if task.needs_gradients:
        check_gradients(start.origin)
    example = example_for(start.origin, task, example_input)
    separate_for_good(start.origin, example)
    cost = measure_cost(start.origin, example, options)
    target = Target.of(max_drop, budget, formats, plan, options, cost)
    while True:
        own, show = _options_of_round(start, options), _numbered(on_progress, start)
        setup = prepare_search(start, task.share(start.number, start.count), example, target, cost, own, show)
        store = _round_state(setup)
        kept = store.load() if store is not None and options.resume else None
        if kept is not None:
            start = start.next_from(kept)
            continue
        found = run_search(setup)
        network, kernels = setup.evaluator.apply(found.plan)
        setup.clock.lap("search")
        untuned, whole, judge = copy.deepcopy(network), start.whole_plan(found.plan), setup.evaluator.task
        held_out = {"dense": setup.origin_score, "before_finetuning": judge.score(network)}
        report, stop = None, "not fine-tuned"
        if whole.choices:  # the dense network goes out as it came
            state = own.work / FINETUNE_STATE if own.work else None
            report = finetune(network, start.origin, judge, checkpoint=state, on_progress=show)
        if report is not None:  # both scored alike
            held_out["before_finetuning"], held_out["compressed"] = report.start.value, report.best.value
            stop = report.stop.value
        elif weights_digest(network) != weights_digest(untuned):
            held_out["compressed"], stop = judge.score(network), UNREPORTED
        else:
            held_out["compressed"] = held_out["before_finetuning"]
        setup.clock.lap("finetune")
        done = RoundResult(setup, found, whole, network.eval(), untuned, kernels, report, stop, held_out)
        if start.is_last:
            break
        start = _next_round(done, store)
    for each in () if is_separate(start.origin, done.plan) else (start.origin, untuned, network):
        pack_projections(each)  # no plan asks for them
    final = judge.final_scores((start.origin, untuned, network))
    setup.clock.lap("test")
    return CompressionResult(network, start.origin, summarise(done, final), first_samples(example, 1))


def _refuse_sharing(options: CompressOptions) -> None:
    """Workers share a search, and processes a training; a compression is the work of one process."""
    if several_processes():
        raise PolyadicError(
            "compress is one process's work, and a launcher has started several: share a search among workers "
            "(polyadic search --storage), and the training of a saved result among processes (accelerate launch -m "
            "polyadic finetune)"
        )
    if options.storage is not None:
        raise PolyadicError(
            "workers share the trials of a search, not a compression: find_plan (polyadic search --storage) ends with "
            "the same plan in each of them, and compress(plan=...) carries it out; leave out the storage here"
        )


def _options_of_round(start: Round, options: CompressOptions) -> CompressOptions:
    """Every round but the last one works in a folder of its own."""
    if start.is_last or options.work is None:
        return options
    work = options.work / f"round-{start.number}"
    if options.resume:
        remove_partial(work)
    return replace(options, work=work)


def _numbered(show: OnProgress, start: Round) -> Callable[[Progress], None]:
    """Progress that tells of which round it is, where there are several."""
    if start.count == 1:
        return show
    return lambda progress: show(replace(progress, stage=f"{progress.stage} {start.number}/{start.count}"))


def _round_state(setup: SearchSetup) -> Checkpoint | None:
    """Where the end of a round is kept; None for the last one, and where nothing is kept."""
    if setup.round.is_last or setup.options.work is None:
        return None
    return Checkpoint(setup.options.work / ROUND_STATE, f"{setup.digest} {setup.evaluator.task.provenance()}")


def _next_round(done: RoundResult, store: Checkpoint | None) -> Round:
    """The round after this one, whose beginning is kept for a run that is gone on with."""
    following = done.setup.round.next(done.network, done.plan, done.outcomes(), done.to_report())
    if store is not None:
        outcomes = [asdict(outcome) for outcome in following.outcomes.values()]
        state = {"plan": done.plan.to_json(), "weights": dict(done.network.state_dict()), "outcomes": outcomes}
        store.save({**state, "report": following.history[-1]})
    return following
