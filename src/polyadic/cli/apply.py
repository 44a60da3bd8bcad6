"""``polyadic apply``: put the chains of a plan in the places of the layers that it names, and train nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.deliver import deliver, with_provenance
from polyadic.cli.goal_arguments import AlarmAt
from polyadic.cli.judge import read_data, without_training
from polyadic.cli.judge_arguments import OptionalJudgeArguments
from polyadic.cli.lists import input_size
from polyadic.cli.model_arguments import TrainedModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson, CacheDir, Seed, factor_cache
from polyadic.cli.screen import command_line, emit, say, warn
from polyadic.cli.search_arguments import DataAware
from polyadic.errors import PolyadicError
from polyadic.export import read_plan, save_applied
from polyadic.pipeline import CompressOptions, apply_plan, compress
from polyadic.pipeline.alarm import NO_SAMPLES
from polyadic.schema import Plan, Summary
from polyadic.storage import folder_lock


@command
def apply_command(
    model: TrainedModelArguments,
    data: OptionalJudgeArguments,
    plan: Annotated[Path, typer.Option(help="file of a plan, or folder of a search or a result")],
    out: Annotated[Path, typer.Option(help="folder for the network")],
    data_aware: DataAware = True,
    held_out: HeldOut = None,
    alarm_at: AlarmAt = CompressOptions.alarm_at,
    seed: Seed = 0,
    cache_dir: CacheDir = None,
    json: AsJson = False,
) -> None:
    """Carry out a plan and train nothing: fitted to samples where there are any, else by weights alone."""
    with folder_lock(out):
        if any((out / name).exists() for name in (Summary.file, "model.safetensors")):
            raise PolyadicError(f"{out} already holds a network: choose another folder")
        given = Plan.from_json(read_plan(plan)["layers"])
        judge = read_data(data, seed, held_out)
        loaded, origin = model.load(judge.images)
        cache = factor_cache(cache_dir)
        if data.data is not None:
            options = CompressOptions(data_aware=data_aware, alarm_at=alarm_at, seed=seed, cache=cache)
            task = without_training(judge.task(loaded, None, seed))
            example = judge.example(loaded, task)
            with ProgressBars() as bars:
                result = compress(loaded.model, task, example, plan=given, options=options, on_progress=bars.show)
            result = with_provenance(
                result, {"command": command_line(), "model": model.model, **judge.provenance(example)}
            )
            deliver(result, out, judge.completed(origin, example), task, json=json)
            return
        with ProgressBars() as bars:
            names = [choice.layer for choice in given.choices]
            applied = apply_plan(
                loaded.model,
                given,
                cache=cache,
                seed=seed,
                on_layer=lambda name: bars.move("replace", names.index(name) + 1, len(names), name),
            )
        size = origin.input_shape if data.input_shape is None else input_size(data.input_shape)
        known = replace(origin, mean=judge.origin.mean, std=judge.origin.std, input_shape=size)
        save_applied(applied, loaded.model, out, known)
        if json:
            errors = {name: kernel.relative_error for name, kernel in applied.kernels.items()}
            told = {"data_aware": applied.data_aware, "warnings": [NO_SAMPLES]}
            emit({"out": str(out), "layers": given.to_json(), "relative_errors": errors, **told})
        else:
            warn(NO_SAMPLES)
            say(f"{len(given.choices)} layers replaced from their weights alone, nothing was scored: written to {out}")
