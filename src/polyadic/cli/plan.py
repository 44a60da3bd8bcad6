"""``polyadic plan``: what a network would cost within a budget, before anything is tried."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from polyadic.cli.arguments import (
    AsJson,
    Batch,
    CacheDir,
    Exclude,
    Formats,
    ForSize,
    InputShape,
    LatencyDir,
    Limits,
    Mean,
    Model,
    OnEngine,
    Precision,
    RequireSpeedup,
    RoundTo,
    Seed,
    Std,
    Threads,
    Weights,
    data_of,
    emit,
    example_of,
    latency_of,
    model_of,
    names_of,
    reported,
    search_of,
)
from polyadic.export import Origin, write_plan
from polyadic.pipeline import CompressOptions, CostEstimate, LayerEstimate, estimate_cost
from polyadic.reporting.tables import fewer
from polyadic.surgery import FactorCache, default_cache_directory

COLUMNS = ("layer", "of all MACs", "what becomes of it", "MACs before", "after")


@reported
def plan_command(
    model: Model,
    budget: Limits = None,
    weights: Weights = None,
    data: ForSize = None,
    input_shape: InputShape = None,
    search: Annotated[str, typer.Option(help="one that needs no trials: uniform, vbmf, error-bound")] = "uniform",
    formats: Formats = "cp-epc,svd",
    round_to: RoundTo = None,
    engine: OnEngine = None,
    batch: Batch = None,
    threads: Threads = None,
    precision: Precision = None,
    require_speedup: RequireSpeedup = True,
    latency_dir: LatencyDir = None,
    exclude: Exclude = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    cache_dir: CacheDir = None,
    out: Annotated[Path | None, typer.Option(help="file for the plan, such as plan.json, to be edited")] = None,
    json: AsJson = False,
) -> None:
    """Say what a network would cost with a plan that takes no trials, and write that plan."""
    images = data_of(data, mean, std, seed) if data is not None else None
    loaded, classes = model_of(model, weights, images)
    example = example_of(loaded, images, input_shape)
    options = CompressOptions(
        search=search_of(search, seed),
        round_to=round_to,
        latency=latency_of(engine, batch, threads, precision, latency_dir),
        require_speedup=require_speedup,
        exclude=tuple(exclude or ()),
        seed=seed,
        cache=FactorCache(cache_dir or default_cache_directory()),
    )
    planned = estimate_cost(loaded.model, example, budget=budget or (), formats=names_of(formats), options=options)
    if out is not None:
        means, stds = (images.mean, images.std) if images is not None else (None, None)
        write_plan(out, planned.plan, Origin(model, classes, means, stds, tuple(example.shape[1:])))
    if json:
        document = {
            "model": model,
            "search": search,
            "dense": asdict(planned.dense),
            "planned": asdict(planned.cost),
            "layers": [asdict(layer) for layer in planned.layers],
            "speed": None if planned.speed is None else planned.speed.to_json(),
            "out": None if out is None else str(out),
        }
        emit(document)
    else:
        _print(planned, f"{search} plan for {model}", out)


def _print(planned: CostEstimate, title: str, out: Path | None) -> None:
    console, total = Console(), max(planned.dense.macs, 1)
    table = Table(*COLUMNS, title=title)
    for layer in planned.layers:
        share = f"{100 * layer.macs_before / total:.1f} %"
        table.add_row(layer.name, share, _fate(layer), f"{layer.macs_before:,}", f"{layer.macs_after:,}")
    console.print(table)
    dense, cost = planned.dense, planned.cost
    console.print(
        f"MACs {dense.macs:,} to {cost.macs:,} ({fewer(dense.macs, cost.macs)}), parameters {dense.params:,} to "
        f"{cost.params:,} ({fewer(dense.params, cost.params)}), bytes {dense.bytes:,} to {cost.bytes:,}. Nothing was "
        "tried: what it does to the accuracy, search and compress tell.",
        highlight=False,
    )
    if planned.speed is not None:
        console.print(str(planned.speed), highlight=False)
        for warning in planned.speed.warnings:
            console.print(f"[bold yellow]warning:[/] {warning}", highlight=False)
    if out is not None:
        console.print(f"written to {out}; carry it out with polyadic compress --plan {out}", highlight=False)


def _fate(layer: LayerEstimate) -> str:
    if layer.format is None:
        return f"dense: {layer.reason}"
    rank = layer.rank if isinstance(layer.rank, int) else ", ".join(map(str, layer.rank or []))
    left = 100 * layer.macs_after / max(layer.macs_before, 1)
    return f"{layer.format}, rank {rank}: {left:.0f} % of its MACs"
