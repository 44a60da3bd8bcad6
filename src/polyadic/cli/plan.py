"""``polyadic plan``: what a network would cost within a budget, before anything is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.goal_arguments import Budget, EngineArguments
from polyadic.cli.judge import read_data
from polyadic.cli.judge_arguments import ExampleArguments
from polyadic.cli.model_arguments import ModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson, CacheDir, Seed, factor_cache
from polyadic.cli.screen import emit, print_table, say, warn
from polyadic.cli.search_arguments import FormatArguments, search_of
from polyadic.export import write_plan
from polyadic.pipeline import CompressOptions, CostEstimate, LayerEstimate, estimate_cost
from polyadic.reporting import fewer, rank_text

COLUMNS = ("layer", "of all MACs", "what becomes of it", "MACs before", "after")


@command
def plan_command(
    model: ModelArguments,
    size: ExampleArguments,
    layers: FormatArguments,
    engine: EngineArguments,
    budget: Budget = None,
    search: Annotated[str, typer.Option(help="one that needs no trials: uniform, vbmf, error-bound")] = "uniform",
    seed: Seed = 0,
    cache_dir: CacheDir = None,
    out: Annotated[Path | None, typer.Option(help="file for the plan, such as plan.json, to be edited")] = None,
    json: AsJson = False,
) -> None:
    """Say what a network would cost with a plan that takes no trials, and write that plan."""
    given = read_data(size, seed)
    loaded, origin = model.load(given.images)
    example = given.example(loaded)
    options = CompressOptions(
        search=search_of(search, seed),
        round_to=layers.round_to,
        latency=engine.latency(),
        require_speedup=engine.require_speedup,
        exclude=tuple(layers.exclude or ()),
        seed=seed,
        cache=factor_cache(cache_dir),
    )
    planned = estimate_cost(loaded.model, example, budget=budget or (), formats=layers.names, options=options)
    if out is not None:
        write_plan(out, planned.plan, given.completed(origin, example))
    if json:
        emit({"model": model.model, "search": search, **planned.to_json(), "out": None if out is None else str(out)})
    else:
        _print(planned, f"{search} plan for {model.model}", out)


def _print(planned: CostEstimate, title: str, out: Path | None) -> None:
    dense, cost = planned.dense, planned.cost
    rows = (
        (
            layer.name,
            f"{100 * layer.macs_before / max(dense.macs, 1):.1f} %",
            _fate(layer),
            f"{layer.macs_before:,}",
            f"{layer.macs_after:,}",
        )
        for layer in planned.layers
    )
    print_table(title, COLUMNS, rows)
    say(
        f"MACs {dense.macs:,} to {cost.macs:,} ({fewer(dense.macs, cost.macs)}), parameters {dense.params:,} to "
        f"{cost.params:,} ({fewer(dense.params, cost.params)}), bytes {dense.bytes:,} to {cost.bytes:,}. Nothing was "
        "tried: what it does to the network's answers, search and compress tell; give them samples of its inputs "
        "(--data samples:DIR, npy:FILE, npz:FILE), without which much more of them is lost (docs/samples.md)."
    )
    if planned.speed is not None:
        say(str(planned.speed))
        warn(*planned.speed.warnings)
    if out is not None:
        say(f"written to {out}; carry it out with polyadic compress --plan {out}")


def _fate(layer: LayerEstimate) -> str:
    if layer.format is None:
        return f"dense: {layer.reason}"
    left = 100 * layer.macs_after / max(layer.macs_before, 1)
    return f"{layer.format}, rank {rank_text(layer.rank)}: {left:.0f} % of its MACs"
