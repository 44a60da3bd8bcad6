"""``polyadic compress``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from polyadic.cli.arguments import (
    AsJson,
    Batch,
    CacheDir,
    Data,
    DataAware,
    Eps,
    Exclude,
    FinetuneEpochs,
    FinetuneRate,
    Formats,
    FreezeStatistics,
    HeldOut,
    LatencyDir,
    Limits,
    MaxDrop,
    Mean,
    MixImages,
    Model,
    OnEngine,
    Precision,
    Recoverable,
    RequireSpeedup,
    RoundTo,
    Search,
    Seed,
    Std,
    Storage,
    Threads,
    Timeout,
    Trials,
    Watch,
    Weights,
    command_line,
    console,
    data_of,
    emit,
    image_task,
    latency_of,
    model_of,
    names_of,
    reported,
    search_of,
)
from polyadic.cli.live import LiveView
from polyadic.data import ImageData
from polyadic.errors import ConcludedElsewhereError, PolyadicError
from polyadic.export import Origin, load, read_plan, save, summary_document
from polyadic.pipeline import CompressionResult, CompressOptions, Progress, compress
from polyadic.reporting import HEADLINE_COLUMNS, LAYER_COLUMNS, headline_rows, layer_rows, report
from polyadic.schema import Plan, Summary
from polyadic.storage import remove_partial
from polyadic.surgery import FactorCache, default_cache_directory
from polyadic.training import NETWORK_TUNING, ImageTask

OVER_BUDGET = 3
"""Exit status of a run that ended, whose network lost more on the test images than was allowed."""


@reported
def compress_command(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder for the result")],
    max_drop: MaxDrop = None,
    budget: Limits = None,
    plan: Annotated[Path | None, typer.Option(help="carry out the plan in this file or folder; search nothing")] = None,
    weights: Weights = None,
    search: Search = None,
    trials: Trials = None,
    timeout: Timeout = None,
    formats: Formats = "cp-epc,svd",
    round_to: RoundTo = None,
    engine: OnEngine = None,
    batch: Batch = None,
    threads: Threads = None,
    precision: Precision = None,
    require_speedup: RequireSpeedup = True,
    latency_dir: LatencyDir = None,
    rounds: Annotated[int, typer.Option(help="factorise and fine-tune so many times on the way to the budget")] = 1,
    eps: Eps = None,
    finetune_recovery_factor: Recoverable = CompressOptions.finetune_recovery_factor,
    finetune_epochs: FinetuneEpochs = NETWORK_TUNING.epochs,
    finetune_rate: FinetuneRate = NETWORK_TUNING.learning_rate,
    freeze_statistics: FreezeStatistics = NETWORK_TUNING.freeze_statistics,
    mix_images: MixImages = NETWORK_TUNING.mixing,
    data_aware: DataAware = True,
    exclude: Exclude = None,
    held_out: HeldOut = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    storage: Storage = None,
    resume: Annotated[bool, typer.Option(help="go on with the run, or the search, in OUT")] = False,
    cache_dir: CacheDir = None,
    live: Watch = False,
    json: AsJson = False,
) -> None:
    """Make a trained network smaller, at a bounded loss of accuracy or within a budget, and write it to a folder."""
    _prepare(out, resume)
    given = None
    if plan is not None:
        _refuse_beside_plan(search=search, trials=trials, timeout=timeout, eps=eps, exclude=exclude, storage=storage)
        given = Plan.from_json(read_plan(plan)["layers"])
    images = data_of(data, mean, std, seed, held_out)
    loaded, classes = model_of(model, weights, images)
    options = CompressOptions(
        eps=eps,
        finetune_recovery_factor=finetune_recovery_factor,
        search=search_of(search, seed),
        trials=trials,
        timeout=timeout,
        round_to=round_to,
        latency=latency_of(engine, batch, threads, precision, latency_dir),
        require_speedup=require_speedup,
        exclude=tuple(exclude or ()),
        data_aware=data_aware,
        seed=seed,
        cache=FactorCache(cache_dir or default_cache_directory()),
        work=out,
        resume=resume,
        storage=storage,
    )
    try:
        with LiveView(console) if live else ProgressBars() as bars:
            result = compress(
                loaded.model,
                image_task(images, seed, finetune_epochs, finetune_rate, frozen=freeze_statistics, mixing=mix_images),
                max_drop=max_drop,
                budget=budget or (),
                plan=given,
                formats=names_of(formats),
                rounds=rounds,
                options=options,
                on_progress=bars.show,
            )
    except ConcludedElsewhereError as other:
        _say_who_concludes(other, json=json)
        raise typer.Exit from other
    _deliver(with_provenance(result, {"command": command_line(), "model": model}), out, classes, images, json=json)


def _deliver(result: CompressionResult, out: Path, classes: int | None, images: ImageData, *, json: bool) -> None:
    """Write a result and its page, read it back, say what came of it.

    Raises:
        typer.Exit: with OVER_BUDGET where more was lost than allowed.
    """
    origin = origin_for(str(result.summary.provenance["model"]), classes, images)
    reloaded = save_and_reload(result, out, origin, images)
    page = report(out)
    if json:
        emit({"out": str(out), "reloaded_score": reloaded, "report": str(page), **summary_document(result.summary)})
    else:
        print_summary(result.summary)
        Console().print(f"written to {out}, read back and scored again: {100 * reloaded:.2f} %", highlight=False)
        Console().print(f"the whole story: {page}", highlight=False)
    if result.summary.max_drop is not None and result.summary.drop > result.summary.max_drop:
        raise typer.Exit(OVER_BUDGET)


def _prepare(out: Path, resume: bool) -> None:
    """Make sure that nothing finished is overwritten, and clear away what was left half written.

    Raises:
        PolyadicError: there is a result.
    """
    if (out / "result.json").exists() and not resume:
        raise PolyadicError(
            f"{out} already holds a result: choose another folder, or --resume to repeat its last steps"
        )
    if resume:
        remove_partial(out)


def _say_who_concludes(other: ConcludedElsewhereError, *, json: bool) -> None:
    console.print(str(other), markup=False, highlight=False, soft_wrap=True)
    if json:
        emit({"out": None, "concluded_by": other.worker})


def _refuse_beside_plan(**options: object) -> None:
    """Refuse what a search would need where none is made.

    Raises:
        PolyadicError: one of the options was given.
    """
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise PolyadicError(f"--plan is carried out as it is, and nothing is searched: leave out {', '.join(given)}")


def origin_for(model: str, classes: int | None, images: ImageData) -> Origin:
    """Where a network of the command line comes from, and what it takes."""
    return Origin(model, classes, images.mean, images.std, tuple(images.image_shape))


def with_provenance(result: CompressionResult, known: dict[str, Any]) -> CompressionResult:
    """The result with more said about where it comes from."""
    summary = replace(result.summary, provenance={**known, **result.summary.provenance})
    return replace(result, summary=summary)


def save_and_reload(result: CompressionResult, out: Path, origin: Origin, images: ImageData) -> float:
    """Write the folder, load it again from its files alone and score that on the test images.

    Raises:
        PolyadicError: the network on disk does not score as the one in memory.
    """
    save(result, out, origin=origin)
    score = ImageTask(images).final_scores((load(out, trust_code=True),)).values[0]  # the code ran a moment ago
    if abs(score - result.summary.compressed_score) > 1e-3:
        raise PolyadicError(
            f"a saved network scores as the one in memory; {out} gives {score:.4f} instead of "
            f"{result.summary.compressed_score:.4f}: the model keeps state outside its parameters and buffers"
        )
    return score


def print_summary(summary: Summary) -> None:
    """The headline, the layers and the warnings."""
    out = Console()
    for title, columns, rows in (
        (f"{summary.mac_reduction:.2f}x fewer MACs", HEADLINE_COLUMNS, headline_rows(summary)),
        ("layers", LAYER_COLUMNS, layer_rows(summary)),
    ):
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        out.print(table)
    out.print(
        "1 MAC = one multiply-accumulate (FLOPs = 2 x MACs), for one image. Seconds: "
        + ", ".join(f"{part} {seconds:.0f}" for part, seconds in summary.seconds.items()),
        highlight=False,
    )
    for warning in summary.warnings:
        out.print(f"[bold yellow]warning:[/] {warning}", highlight=False)


class ProgressBars:
    """One bar per stage on stderr, with the time left."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bars = Bars(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
            console=console,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar of a stage."""
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, message="")
        message = progress.message or (f"trying {progress.trying}" if progress.trying else "")
        self._bars.update(self._tasks[progress.stage], completed=progress.done, total=progress.total, message=message)
