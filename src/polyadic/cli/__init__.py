"""The command line: each command parses, calls one verb and prints."""

from __future__ import annotations

import typer

from polyadic.cli.analyze import analyze
from polyadic.cli.compress import compress_command
from polyadic.cli.decompose import decompose
from polyadic.cli.demo import demo
from polyadic.cli.evaluate import evaluate
from polyadic.cli.inspect import inspect
from polyadic.cli.plan import plan_command
from polyadic.cli.report import report_command
from polyadic.cli.search import search_command

app = typer.Typer(
    help="Make trained convolutional networks smaller by stable low-rank tensor decomposition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("inspect")(inspect)
app.command("plan")(plan_command)
app.command("search")(search_command)
app.command("compress")(compress_command)
app.command("evaluate")(evaluate)
app.command("report")(report_command)
app.command("decompose")(decompose)
app.command("demo")(demo)
app.add_typer(analyze, name="analyze")


def main() -> None:
    """Entry point of the command ``polyadic``."""
    app()
