"""``polyadic search``: find a plan, and carry nothing out."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.deliver import OVER_BUDGET
from polyadic.cli.goal_arguments import EngineArguments, GoalArguments
from polyadic.cli.judge import read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_arguments import TrainedModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.progress import display
from polyadic.cli.run_arguments import RunArguments
from polyadic.cli.screen import command_line, emit, print_table, say, warn
from polyadic.cli.search_arguments import SearchArguments
from polyadic.errors import PolyadicError
from polyadic.export import save_search
from polyadic.pipeline import SearchResult, TriedPlan, find_plan
from polyadic.pipeline.alarm import is_ruined
from polyadic.reporting import divergence_label, report
from polyadic.schema import Plan, Summary
from polyadic.storage import folder_lock, remove_partial


@command
def search_command(
    model: TrainedModelArguments,
    data: JudgeArguments,
    goal: GoalArguments,
    search: SearchArguments,
    engine: EngineArguments,
    run: RunArguments,
    held_out: HeldOut = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="study that several workers share: sqlite:///FILE, postgresql://..., journal:///FILE",
            rich_help_panel="Search",
        ),
    ] = None,
) -> None:
    """Find format and rank for every layer and write the plan; ``compress --plan`` carries it out."""
    # workers that share a study may share a folder, too: all of them write the same files there, each whole
    with folder_lock(run.out) if storage is None else nullcontext():
        out = run.out
        if (out / Summary.file).exists():
            raise PolyadicError(f"{out} already holds the result of a compression: choose another folder")
        if (out / Plan.file).exists() and not run.resume:
            raise PolyadicError(f"{out} already holds a plan: choose another folder, or --resume to go on searching")
        if storage is not None and run.resume:
            remove_partial(out)
        judge = read_data(data, run.seed, held_out)
        loaded, origin = model.load(judge.images)
        task = judge.task(loaded, None, run.seed)
        example = judge.example(loaded, task)
        with display(live=run.live) as shown:
            found = find_plan(
                loaded.model,
                task,
                example,
                max_drop=goal.max_drop,
                budget=goal.budget or (),
                formats=search.names,
                options=replace(search.options(engine, run, storage), alarm_at=goal.alarm_at),
                on_progress=shown.show,
            )
        origin = judge.completed(origin, example)
        known = {"command": command_line(), "model": model.model, **judge.provenance(example)}
        save_search(found, out, origin, known)
        page = report(out)
        ruined = is_ruined(found.provenance)
        if run.json:
            emit({"out": str(out), "report": str(page), **found.to_json()})
        else:
            if ruined:
                warn(*found.warnings[:1])
            _print(found, out)
            warn(*found.warnings[ruined:])
            say(f"the whole story: {page}")
        if ruined:
            raise typer.Exit(OVER_BUDGET)


def _print(found: SearchResult, out: Path) -> None:
    """The front, the plan, and how it ended."""
    words = found.words
    columns = ("", "layers", "MACs", "parameters", words.lost_label("drop"), divergence_label(found.provenance))

    def row(tried: TriedPlan) -> tuple[str, ...]:
        return (
            "the plan" if tried.plan == found.plan else "",
            str(len(tried.plan.choices)),
            f"{tried.cost.macs:,} ({100 * tried.cost.macs / max(found.dense.macs, 1):.1f} %)",
            f"{tried.cost.params:,} ({100 * tried.cost.params / max(found.dense.params, 1):.1f} %)",
            words.lost(tried.drop),
            "" if tried.divergence is None else f"{tried.divergence:.4f}",
        )

    rows = map(row, found.plans_to_choose_from)
    print_table("plans that no other beats in cost and loss, before fine-tuning", columns, rows)
    if found.speed is not None:
        say(str(found.speed))
    trials = f"{found.trials} trial{'' if found.trials == 1 else 's'}"
    say(
        f"{found.search}: {trials}, {found.stop}. Written to {out / 'plan.json'}; carry it out with "
        f"polyadic compress --plan {out / 'plan.json'}"
    )
