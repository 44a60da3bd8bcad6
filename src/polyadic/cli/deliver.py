"""A finished result: written, read back and scored again, shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from polyadic.cli.screen import emit, print_table, say, warn
from polyadic.errors import PolyadicError
from polyadic.export import Origin, load, save
from polyadic.pipeline import CompressionResult
from polyadic.pipeline.alarm import is_ruined
from polyadic.reporting import HEADLINE_COLUMNS, LAYER_COLUMNS, headline_rows, layer_rows, report
from polyadic.schema import Summary
from polyadic.training import Task

OVER_BUDGET = 3
"""Exit status of a run that ended, whose network lost more than was allowed, or than leaves it the same network."""


def deliver(result: CompressionResult, out: Path, origin: Origin, task: Task, *, json: bool) -> None:
    """Write a result and its page to ``out``, read it back, and say what came of it.

    Raises:
        PolyadicError: the network on disk does not score as the one in memory.
        typer.Exit: with OVER_BUDGET where more was lost than allowed.
    """
    reloaded = save_and_reload(result, out, origin, task)
    written = f"written to {out}, read back and scored again: {result.summary.words.said(reloaded)}"
    present(result.summary, out, written, {"reloaded_score": reloaded}, json=json)


def present(
    summary: Summary, out: Path, written: str, known: Mapping[str, Any] = MappingProxyType({}), *, json: bool
) -> None:
    """Make the page of a result in ``out``, and say what came of it; ``known`` goes into the JSON object, too.

    Raises:
        typer.Exit: with OVER_BUDGET where more was lost than allowed.
    """
    page = report(out)
    if json:
        emit({"out": str(out), **known, "report": str(page), **summary.to_json()})
    else:
        if is_ruined(summary.provenance):
            warn(*summary.warnings[:1])
        print_summary(summary)
        say(written, f"the whole story: {page}")
    if is_ruined(summary.provenance) or (summary.max_drop is not None and summary.drop > summary.max_drop):
        raise typer.Exit(OVER_BUDGET)


def with_provenance(result: CompressionResult, known: dict[str, Any]) -> CompressionResult:
    """The result with more said about where it comes from."""
    summary = replace(result.summary, provenance={**known, **result.summary.provenance})
    return replace(result, summary=summary)


def save_and_reload(result: CompressionResult, out: Path, origin: Origin, task: Task) -> float:
    """Write the folder, load it again from its files alone and score that as the task scores at the end.

    Raises:
        PolyadicError: the network on disk does not score as the one in memory.
    """
    save(result, out, origin=origin)
    score, known = task.final_scores((load(out, trust_code=True),)).values[0], result.summary.compressed_score
    if abs(score - known) > 1e-3 * max(1.0, abs(known)):  # the code that builds it ran a moment ago
        raise PolyadicError(
            f"a saved network scores as the one in memory; {out} gives {score:.6g} instead of {known:.6g}: the model "
            "keeps state outside its parameters and buffers, or the score is not the same each time"
        )
    return score


def print_summary(summary: Summary) -> None:
    """The headline, the layers and the warnings."""
    print_table(f"{summary.mac_reduction:.2f}x fewer MACs", HEADLINE_COLUMNS, headline_rows(summary))
    print_table("layers", LAYER_COLUMNS, layer_rows(summary))
    say(
        "1 MAC = one multiply-accumulate (FLOPs = 2 x MACs), for one sample. Seconds: "
        + ", ".join(f"{part} {seconds:.0f}" for part, seconds in summary.seconds.items())
    )
    warn(*summary.warnings[is_ruined(summary.provenance) :])
