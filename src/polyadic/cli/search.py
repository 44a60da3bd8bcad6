"""``polyadic search``: find a plan, and carry nothing out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from polyadic.cli.arguments import (
    AsJson,
    CacheDir,
    Data,
    DataAware,
    Eps,
    Exclude,
    Formats,
    HeldOut,
    Limits,
    MaxDrop,
    Mean,
    Model,
    Recoverable,
    RoundTo,
    Search,
    Seed,
    Std,
    Storage,
    Timeout,
    Trials,
    Weights,
    data_of,
    emit,
    model_of,
    names_of,
    reported,
    search_of,
)
from polyadic.cli.compress import ProgressBars, image_task, origin_for
from polyadic.errors import PolyadicError
from polyadic.export import write_plan
from polyadic.files import remove_partial
from polyadic.pipeline import CompressOptions, FoundPlan, TriedPlan, search_plan
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
    round_to: RoundTo = 1,
    eps: Eps = None,
    recoverable: Recoverable = CompressOptions.recoverable,
    data_aware: DataAware = True,
    exclude: Exclude = None,
    held_out: HeldOut = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    storage: Storage = None,
    resume: Annotated[bool, typer.Option(help="go on with the search in OUT")] = False,
    cache_dir: CacheDir = None,
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
        recoverable=recoverable,
        search=search_of(search, seed),
        trials=trials,
        timeout=timeout,
        round_to=round_to,
        exclude=tuple(exclude or ()),
        data_aware=data_aware,
        seed=seed,
        cache=FactorCache(cache_dir or default_cache_directory()),
        work=out,
        resume=resume,
        storage=storage,
    )
    with ProgressBars() as bars:
        found = search_plan(
            loaded.model,
            image_task(images, 0, seed),
            max_drop=max_drop,
            budget=budget or (),
            formats=names_of(formats),
            options=options,
            on_progress=bars.show,
        )
    write_plan(out / "plan.json", found.plan, origin_for(model, classes, images))
    if json:
        emit({"out": str(out), **_document(found)})
    else:
        _print(found, out)


def _document(found: FoundPlan) -> dict[str, Any]:
    return {
        "search": found.search,
        "stop": found.stop,
        "trials": found.trials,
        "dense": {**asdict(found.dense), "held_out": found.dense_score},
        "plan": _tried(found.tried),
        "front": [_tried(tried) for tried in found.front],
        "seconds": found.seconds,
    }


def _tried(tried: TriedPlan) -> dict[str, Any]:
    return {**asdict(tried.cost), "drop": tried.drop, "loss": tried.loss, "layers": tried.plan.to_json()}


def _print(found: FoundPlan, out: Path) -> None:
    """The front, the plan, and how it ended."""
    console = Console()
    table = Table(*FRONT_COLUMNS, title="plans that no other beats in cost and harm, before fine-tuning")
    rows = [*found.front] if found.tried in found.front else [*found.front, found.tried]
    for tried in rows:
        table.add_row(
            "the plan" if tried.plan == found.plan else "",
            str(len(tried.plan.choices)),
            f"{tried.cost.macs:,} ({100 * tried.cost.macs / max(found.dense.macs, 1):.1f} %)",
            f"{tried.cost.params:,} ({100 * tried.cost.params / max(found.dense.params, 1):.1f} %)",
            f"{tried.drop:.2f}",
            "" if tried.loss is None else f"{tried.loss:.4f}",
        )
    console.print(table)
    console.print(
        f"{found.search}: {found.trials} trials, {found.stop}. Written to {out / 'plan.json'}; carry it out with "
        f"polyadic compress --plan {out / 'plan.json'}",
        highlight=False,
    )
