"""``polyadic compress``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from polyadic.cli.arguments import (
    DataArguments,
    EngineArguments,
    FinetuneArguments,
    GoalArguments,
    HeldOut,
    ModelArguments,
    RunArguments,
    SearchArguments,
)
from polyadic.cli.option_groups import command
from polyadic.cli.progress import display
from polyadic.cli.screen import command_line, console, emit, print_table, say, warn
from polyadic.data import ImageData
from polyadic.errors import ConcludedElsewhereError, PolyadicError
from polyadic.export import Origin, load, read_plan, save, summary_document
from polyadic.pipeline import CompressionResult, compress
from polyadic.reporting import HEADLINE_COLUMNS, LAYER_COLUMNS, headline_rows, layer_rows, report
from polyadic.schema import Plan, Summary
from polyadic.storage import remove_partial
from polyadic.training import ImageTask

OVER_BUDGET = 3
"""Exit status of a run that ended, whose network lost more on the test images than was allowed."""


@command
def compress_command(
    model: ModelArguments,
    data: DataArguments,
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
    storage: Annotated[
        str | None,
        typer.Option(
            help="study that several workers share: sqlite:///FILE, postgresql://..., journal:///FILE",
            rich_help_panel="Search",
        ),
    ] = None,
) -> None:
    """Make a trained network smaller, at a bounded loss of accuracy or within a budget, and write it to a folder."""
    _prepare(run.out, run.resume)
    given = None
    if plan is not None:
        _refuse_beside_plan(search, storage)
        given = Plan.from_json(read_plan(plan)["layers"])
    images = data.load(run.seed, held_out)
    loaded, origin = model.load(images)
    try:
        with display(live=run.live) as shown:
            result = compress(
                loaded.model,
                tuning.task(images, run.seed),
                max_drop=goal.max_drop,
                budget=goal.budget or (),
                plan=given,
                formats=search.names,
                rounds=rounds,
                options=search.options(engine, run, storage),
                on_progress=shown.show,
            )
    except ConcludedElsewhereError as other:
        console.print(str(other), markup=False, highlight=False, soft_wrap=True)
        if run.json:
            emit({"out": None, "concluded_by": other.worker})
        raise typer.Exit from other
    result = with_provenance(result, {"command": command_line(), "model": model.model})
    reloaded = save_and_reload(result, run.out, origin, images)
    page = report(run.out)
    if run.json:
        known = {"out": str(run.out), "reloaded_score": reloaded, "report": str(page)}
        emit({**known, **summary_document(result.summary)})
    else:
        print_summary(result.summary)
        say(f"written to {run.out}, read back and scored again: {100 * reloaded:.2f} %", f"the whole story: {page}")
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


def _refuse_beside_plan(search: SearchArguments, storage: str | None) -> None:
    """Refuse what a search would need where none is made.

    Raises:
        PolyadicError: one of the options was given.
    """
    names = ("search", "trials", "timeout", "max_drop_per_layer", "exclude")
    options: dict[str, object] = {**{name: getattr(search, name) for name in names}, "storage": storage}
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise PolyadicError(f"--plan is carried out as it is, and nothing is searched: leave out {', '.join(given)}")


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
    print_table(f"{summary.mac_reduction:.2f}x fewer MACs", HEADLINE_COLUMNS, headline_rows(summary))
    print_table("layers", LAYER_COLUMNS, layer_rows(summary))
    say(
        "1 MAC = one multiply-accumulate (FLOPs = 2 x MACs), for one image. Seconds: "
        + ", ".join(f"{part} {seconds:.0f}" for part, seconds in summary.seconds.items())
    )
    warn(*summary.warnings)
