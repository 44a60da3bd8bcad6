"""``polyadic search``: find a plan, and carry nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from polyadic.cli.arguments import (
    AsJson,
    Batch,
    CacheDir,
    Data,
    DataAware,
    Eps,
    Exclude,
    Formats,
    HeldOut,
    LatencyDir,
    Limits,
    MaxDrop,
    Mean,
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
from polyadic.cli.compress import ProgressBars, origin_for
from polyadic.cli.live import LiveView
from polyadic.errors import PolyadicError
from polyadic.export import save_search, search_document
from polyadic.pipeline import CompressOptions, SearchResult, find_plan
from polyadic.reporting import report
from polyadic.storage import remove_partial
from polyadic.surgery import FactorCache, default_cache_directory

FRONT_COLUMNS = ("", "layers", "MACs", "parameters", "drop, points", "divergence")


@reported
def search_command(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder for plan.json and the log of the trials")],
    max_drop: MaxDrop = None,
    budget: Limits = None,
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
    eps: Eps = None,
    finetune_recovery_factor: Recoverable = CompressOptions.finetune_recovery_factor,
    data_aware: DataAware = True,
    exclude: Exclude = None,
    held_out: HeldOut = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    storage: Storage = None,
    resume: Annotated[bool, typer.Option(help="go on with the search in OUT")] = False,
    cache_dir: CacheDir = None,
    live: Watch = False,
    json: AsJson = False,
) -> None:
    """Find format and rank for every layer and write the plan; ``compress --plan`` carries it out."""
    if (out / "result.json").exists():
        raise PolyadicError(f"{out} already holds the result of a compression: choose another folder")
    if (out / "plan.json").exists() and not resume:
        raise PolyadicError(f"{out} already holds a plan: choose another folder, or --resume to go on searching")
    if resume:
        remove_partial(out)
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
    with LiveView(console) if live else ProgressBars() as bars:
        found = find_plan(
            loaded.model,
            image_task(images, seed, 0),
            max_drop=max_drop,
            budget=budget or (),
            formats=names_of(formats),
            options=options,
            on_progress=bars.show,
        )
    known = {"command": command_line(), "model": model, "data": data}
    save_search(found, out, origin_for(model, classes, images), known)
    page = report(out)
    if json:
        emit({"out": str(out), "report": str(page), **search_document(found)})
    else:
        _print(found, out)
        Console().print(f"the whole story: {page}", highlight=False)


def _print(found: SearchResult, out: Path) -> None:
    """The front, the plan, and how it ended."""
    screen = Console()
    table = Table(*FRONT_COLUMNS, title="plans that no other beats in cost and harm, before fine-tuning")
    rows = [*found.front] if found.tried in found.front else [*found.front, found.tried]
    for tried in rows:
        table.add_row(
            "the plan" if tried.plan == found.plan else "",
            str(len(tried.plan.choices)),
            f"{tried.cost.macs:,} ({100 * tried.cost.macs / max(found.dense.macs, 1):.1f} %)",
            f"{tried.cost.params:,} ({100 * tried.cost.params / max(found.dense.params, 1):.1f} %)",
            f"{tried.drop:.2f}",
            "" if tried.divergence is None else f"{tried.divergence:.4f}",
        )
    screen.print(table)
    if found.speed is not None:
        screen.print(str(found.speed), highlight=False)
        for warning in found.speed.warnings:
            screen.print(f"[bold yellow]warning:[/] {warning}", highlight=False)
    screen.print(
        f"{found.search}: {found.trials} trials, {found.stop}. Written to {out / 'plan.json'}; carry it out with "
        f"polyadic compress --plan {out / 'plan.json'}",
        highlight=False,
    )
