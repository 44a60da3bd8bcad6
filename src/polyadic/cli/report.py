"""``polyadic report``: a page that shows a result, a search or a study, or two results, from their files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson
from polyadic.cli.screen import emit, say
from polyadic.errors import PolyadicError
from polyadic.reporting import compare, read_folder, report, write_figures


@command
def report_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="folder of a result, a search or a study")],
    other: Annotated[
        Path | None, typer.Argument(metavar="DIR2", help="folder of another result to compare it with")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the page; DIR/report.html, or comparison.html here for two results")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="write each plot as SVG to this folder too")] = None,
    json: AsJson = False,
) -> None:
    """Make a page of a folder that opens anywhere, without a network; or one that compares two results."""
    if other is not None and figures is not None:
        raise PolyadicError("--figures draws one folder: give it with one")
    page = report(directory, out) if other is None else compare(directory, other, out or Path("comparison.html"))
    drawn = write_figures(read_folder(directory), figures) if figures is not None else []
    if json:
        emit({"report": str(page), "figures": [str(path) for path in drawn]})
        return
    say(*(f"written to {path}" for path in (page, *drawn)))
