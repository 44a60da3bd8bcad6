"""The whole story: a network and images in, a smaller network proven as good out (Phan et al. 2020, section 3)."""

from __future__ import annotations

import copy
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.costing import network_cost
from polyadic.data import ImageData
from polyadic.errors import BudgetError, LayerError, PolyadicError
from polyadic.formats import FactoredKernel, format_named
from polyadic.schema import Choice, LayerOutcome, LayerSite, Plan, Summary, plain_rank
from polyadic.search import Bisection, Ladder, Problem, RankSearch, Trial, TrialLog
from polyadic.surgery import (
    FactorCache,
    chain_for,
    check_finite,
    find_sites,
    layer_at,
    put,
    recalibrate_if_better,
    swapped,
)
from polyadic.training import EpochRecord, ImageTask, ScoreTask, Task

log = logging.getLogger(__name__)

CHECKPOINT = ".finetune.pt"


@dataclass(frozen=True)
class Progress:
    """One step of a run, for displays: ``done`` of about ``total`` in ``stage``, and what just happened."""

    stage: str
    done: int
    total: int
    message: str = ""


@dataclass(frozen=True)
class CompressOptions:
    """What :func:`compress` need not be told.

    Attributes:
        eps: drop in points that a single layer may cause after its own fine-tuning (EPS of Phan et al. 2020);
            ``max_drop`` when absent.
        search: the strategy.
        exclude: names or patterns (``*``, ``?``) of layers that stay dense.
        seed: of the decompositions.
        cache: where factored kernels are kept.
        work: folder for the trial log and the training checkpoint; None keeps nothing.
        resume: go on with what is in ``work``.
    """

    eps: float | None = None
    search: RankSearch = field(default_factory=Bisection)
    exclude: tuple[str, ...] = ()
    seed: int = 0
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    work: Path | None = None
    resume: bool = False


@dataclass(frozen=True, eq=False)
class CompressionResult:
    """The networks and everything that is known of them.

    Attributes:
        model: the compressed network, in evaluation mode, out of plain torch layers.
        dense: a copy of the network as it came.
        summary: costs, scores, plan, layers, provenance.
        example_input: a batch of one sample.
    """

    model: nn.Module
    dense: nn.Module
    summary: Summary
    example_input: Tensor

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.summary.plan


def compress(
    model: nn.Module,
    data: ImageData | Task | Callable[[nn.Module], float],
    example_input: Tensor | None = None,
    *,
    max_drop: float,
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> CompressionResult:
    """Make ``model`` smaller at a loss of at most ``max_drop`` points of score.

    Finds the layers, searches format and rank for each (the drop of every single layer, after its own fine-tuning,
    stays
    within EPS), replaces them all, re-estimates batch-norm statistics if that helps, fine-tunes the whole and scores
    dense and compressed network on the test images, once, at the end. The given model is left as it was.

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
    _check_request(max_drop, formats, options)
    clock = _Clock()
    example = example_input if example_input is not None else task.example_input()
    if example is None:
        raise LayerError("finding layers takes an example input; got none: pass example_input, a batch of one sample")
    check_finite(model)
    dense = copy.deepcopy(model).eval()
    sites = find_sites(dense, example)
    problem = Problem(_ladders(dense, sites, formats, options), options.eps if options.eps is not None else max_drop)
    if not problem.ladders:
        raise BudgetError(_nothing_to_do(sites, formats))
    clock.lap("inspect")

    work = _Workshop(dense, task, sites, options, on_progress)
    plan = work.search(problem, _run_digest(dense, task, problem, formats, options, example))
    if not plan.choices:
        raise BudgetError(
            f"no layer can be made cheaper with at most {problem.threshold:g} points lost on the held-out images, after "
            f"{len(problem.ladders)} layers and formats were tried: allow a larger drop, or other formats"
        )
    clock.lap("search")
    compressed, kernels = work.apply(plan)
    untuned = copy.deepcopy(compressed)
    held_out = {"dense": work.dense_score, "factorised": task.score(compressed)}
    kept, _, held_out["calibrated"] = recalibrate_if_better(compressed, task.calibration_batches(), task.score)
    clock.lap("replace")
    report = task.tune_network(compressed, dense, work.epoch, options.work / CHECKPOINT if options.work else None)
    held_out["compressed"] = report.best.value if report is not None else held_out["calibrated"]
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
        layers=tuple(_outcome(site, plan, problem, kernels) for site in sites),
        seconds=clock.laps,
        provenance={
            **_environment(),
            **task.provenance(),
            "seed": options.seed,
            "eps": problem.threshold,
            "formats": list(formats),
            "exclude": list(options.exclude),
            "search": repr(options.search),
            "trials": len(work.trials),
            "batch_norm_recalibrated": kept,
            "finetuning_stop": report.stop.value if report is not None else "not fine-tuned",
            "finetuning": [vars(record) for record in report.history] if report is not None else [],
            "macs_convention": "1 MAC = one multiply-accumulate of a convolution or matrix product; FLOPs = 2 x MACs",
        },
    )
    summary = replace(summary, warnings=_warnings(summary))
    return CompressionResult(compressed.eval(), dense, summary, example[:1])


class _Workshop:
    """The dense network on the bench: tries single layers, and puts a whole plan in."""

    def __init__(
        self,
        dense: nn.Module,
        task: Task,
        sites: tuple[LayerSite, ...],
        options: CompressOptions,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.dense = dense
        self.bench = copy.deepcopy(dense)
        self.task = task
        self.sites = {site.name: site for site in sites}
        self.options = options
        self.on_progress = on_progress
        self.trials: list[Trial] = []
        self.dense_score = float("nan")

    def search(self, problem: Problem, run: str) -> Plan:
        """Ask the strategy for plans and try them until it has seen enough."""
        strategy, options = self.options.search, self.options
        journal = TrialLog(options.work / "trials.jsonl" if options.work else None, run, resume=options.resume)
        self.trials = journal.trials
        self.dense_score = self.task.score(self.dense)
        total = strategy.expected_trials(problem)
        while (plan := strategy.propose(problem, journal.trials)) is not None:
            began = time.monotonic()
            drop, details = self.try_out(plan, problem.threshold)
            journal.add(Trial(plan, drop), {**details, "seconds": round(time.monotonic() - began, 3)})
            done = len(journal.trials)
            self.on_progress(Progress("search", done, max(total, done), f"{_in_words(plan)}: drop {drop:.2f} points"))
        return strategy.conclude(problem, journal.trials)

    def try_out(self, plan: Plan, threshold: float) -> tuple[float, dict[str, Any]]:
        """The drop in points of the dense network with one layer replaced, fine-tuned alone only if that can change the verdict.

        Fine-tuning keeps the best state, the first one included, so a layer that passes without it passes with it.
        """
        (choice,) = plan.choices
        site = self.sites[choice.layer]
        factored = self.factorise(choice)
        chain = chain_for(self.bench.get_submodule(choice.layer), factored)
        with swapped(self.bench, site, chain):
            before = self.drop()
            tuned = before > threshold and self.task.tune_layer(self.bench, chain.parameters(), self.dense)
            after = self.drop() if tuned else before
        details = {
            "drop_before_finetuning": before,
            "finetuned": tuned,
            "relative_error": factored.relative_error,
            "sensitivity": factored.sensitivity,
            "macs": site.chain_macs(factored.stages),
        }
        return after, details

    def drop(self) -> float:
        """Points lost by the bench against the dense network on the held-out images."""
        return 100.0 * (self.dense_score - self.task.score(self.bench))

    def apply(self, plan: Plan) -> tuple[nn.Module, dict[str, FactoredKernel]]:
        """A copy of the dense network with every layer of ``plan`` replaced, and the kernels."""
        compressed, kernels = copy.deepcopy(self.dense), {}
        for number, choice in enumerate(plan.choices, start=1):
            kernels[choice.layer] = self.factorise(choice)
            layer = compressed.get_submodule(choice.layer)
            put(compressed, self.sites[choice.layer], chain_for(layer, kernels[choice.layer]))
            self.on_progress(Progress("replace", number, len(plan.choices), choice.layer))
        return compressed, kernels

    def factorise(self, choice: Choice) -> FactoredKernel:
        """The factored kernel for a choice, of the dense weights."""
        _, weight, spec = layer_at(self.dense, choice.layer)
        fmt = format_named(choice.format)
        try:
            return self.options.cache.factorise(weight.detach(), spec, fmt, choice.rank, self.options.seed)
        except LayerError as error:
            raise LayerError(f"layer {choice.layer!r}: {error}") from error

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Report an epoch of fine-tuning."""
        score = "diverged" if record.score is None else f"{100 * record.score:.2f} % on held-out images"
        self.on_progress(Progress("finetune", record.epoch, epochs, f"loss {record.loss:.4f}, {score}"))


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


def _check_request(max_drop: float, formats: Sequence[str], options: CompressOptions) -> None:
    for name, points in (("max_drop", max_drop), ("eps", options.eps if options.eps is not None else 0.0)):
        if not 0.0 <= points < 100.0:
            raise PolyadicError(
                f"{name} is a number of points from 0 to below 100 (0.5 = half a percent); got {points}"
            )
    if not formats:
        raise PolyadicError("compression needs at least one format to choose from; got none")
    for name in formats:
        format_named(name)


def _ladders(
    dense: nn.Module, sites: tuple[LayerSite, ...], formats: Sequence[str], options: CompressOptions
) -> tuple[Ladder, ...]:
    """The ranks of every candidate in every format that are cheaper than the layer itself."""
    ladders = []
    for site in sites:
        if site.reason is not None or site.spec is None or _excluded(site.name, options.exclude):
            continue
        _, weight, spec = layer_at(dense, site.name)
        for fmt in map(format_named, formats):
            if fmt.refuses(spec):
                continue
            steps = [(site.chain_macs(fmt.stages(spec, rank)), rank) for rank in fmt.ladder(weight.detach(), spec)]
            cheaper = sorted((step for step in steps if step[0] < site.macs), key=lambda step: step[0])
            if cheaper:
                macs, ranks = zip(*cheaper, strict=True)
                ladders.append(Ladder(site.name, fmt.name, ranks, macs, site.macs))
    return tuple(ladders)


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _nothing_to_do(sites: tuple[LayerSite, ...], formats: Sequence[str]) -> str:
    reasons = sorted({site.reason for site in sites if site.reason})
    return (
        f"none of the {len(sites)} layers can be made cheaper by {', '.join(formats)}"
        + (f" ({'; '.join(reasons)})" if reasons else "")
        + ": inspect the model to see each layer's reason, or allow other formats"
    )


def _outcome(site: LayerSite, plan: Plan, problem: Problem, kernels: dict[str, FactoredKernel]) -> LayerOutcome:
    choice = plan.of(site.name)
    if choice is not None:
        kernel = kernels[site.name]
        return LayerOutcome(
            site.name,
            "factorised",
            kernel.stop,
            site.macs,
            site.chain_macs(kernel.stages),
            kernel.format,
            plain_rank(kernel.rank),
            kernel.relative_error,
            kernel.sensitivity,
            kernel.intensity_ratio,
        )
    if site.reason is not None:
        return LayerOutcome(site.name, "unsupported", site.reason, site.macs, site.macs)
    if any(ladder.layer == site.name for ladder in problem.ladders):
        reason = f"every cheaper rank loses more than {problem.threshold:g} points"
    else:
        reason = "excluded, or no rank of the given formats makes it cheaper"
    return LayerOutcome(site.name, "dense", reason, site.macs, site.macs)


def _warnings(summary: Summary) -> tuple[str, ...]:
    warnings = []
    if summary.drop > summary.max_drop:
        warnings.append(
            f"the compressed network lost {summary.drop:.2f} points on the test images, more than the {summary.max_drop:g} "
            "allowed: run again with a smaller eps or more epochs of fine-tuning"
        )
    if summary.drop_interval is not None and summary.drop <= summary.max_drop < summary.drop_interval[1]:
        warnings.append(
            f"the test set is too small to exclude a loss above {summary.max_drop:g} points: the 95 % interval of the drop "
            f"is {summary.drop_interval[0]:.2f} to {summary.drop_interval[1]:.2f}"
        )
    return tuple(warnings)


def _run_digest(
    dense: nn.Module, task: Task, problem: Problem, formats: Sequence[str], options: CompressOptions, example: Tensor
) -> str:
    """SHA-256 of everything that decides the trials: weights, data, options, geometry."""
    parts = (problem, tuple(formats), options.seed, repr(options.search), tuple(example.shape[1:]), task.provenance())
    digest = hashlib.sha256(repr(parts).encode())
    for name, tensor in sorted(dense.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _environment() -> dict[str, Any]:
    try:
        own = version("polyadic")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "polyadic": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }


def _in_words(plan: Plan) -> str:
    return ", ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in plan.choices)
