"""``polyadic compress``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.deliver import deliver, with_provenance
from polyadic.cli.finetune_arguments import FinetuneArguments
from polyadic.cli.goal_arguments import EngineArguments, GoalArguments
from polyadic.cli.judge import read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_arguments import TrainedModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.progress import display
from polyadic.cli.run_arguments import RunArguments
from polyadic.cli.screen import command_line
from polyadic.cli.search_arguments import SearchArguments
from polyadic.errors import PolyadicError
from polyadic.export import read_plan
from polyadic.pipeline import compress
from polyadic.schema import Plan, Summary
from polyadic.storage import folder_lock


@command
def compress_command(
    model: TrainedModelArguments,
    data: JudgeArguments,
    goal: GoalArguments,
    search: SearchArguments,
    engine: EngineArguments,
    tuning: FinetuneArguments,
    run: RunArguments,
    plan: Annotated[
        Path | None,
        typer.Option(help="carry out the plan in this file or folder; search nothing", rich_help_panel="Goal"),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(help="factorise and fine-tune so many times on the way to the budget", rich_help_panel="Goal"),
    ] = 1,
    held_out: HeldOut = None,
) -> None:
    """Make a trained network smaller: search, apply, finetune and evaluate in a row, into one folder."""
    with folder_lock(run.out):
        _refuse_result(run.out, run.resume)
        given = None
        if plan is not None:
            _refuse_beside_plan(search)
            given = Plan.from_json(read_plan(plan)["layers"])
        judge = read_data(data, run.seed, held_out)
        loaded, origin = model.load(judge.images)
        task = judge.task(loaded, tuning, run.seed)
        example = judge.example(loaded, task)
        with display(live=run.live) as shown:
            result = compress(
                loaded.model,
                task,
                example,
                max_drop=goal.max_drop,
                budget=goal.budget or (),
                plan=given,
                formats=search.names,
                rounds=rounds,
                options=replace(search.options(engine, run), alarm_at=goal.alarm_at),
                on_progress=shown.show,
            )
        result = with_provenance(result, {"command": command_line(), "model": model.model, **judge.provenance(example)})
        deliver(result, run.out, judge.completed(origin, example), task, json=run.json)


def _refuse_result(out: Path, resume: bool) -> None:
    """Make sure that nothing finished is overwritten.

    Raises:
        PolyadicError: there is a result.
    """
    if (out / Summary.file).exists() and not resume:
        raise PolyadicError(
            f"{out} already holds a result: choose another folder, or --resume to repeat its last steps"
        )


def _refuse_beside_plan(search: SearchArguments) -> None:
    """Refuse what a search would need where none is made.

    Raises:
        PolyadicError: one of the options was given.
    """
    names = ("search", "trials", "timeout", "max_drop_per_layer", "exclude")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(search, name) is not None]
    if given:
        raise PolyadicError(f"--plan is carried out as it is, and nothing is searched: leave out {', '.join(given)}")
