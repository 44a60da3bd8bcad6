"""The command line: each command parses, calls one verb and prints."""

from __future__ import annotations

import typer

from polyadic.cli.compress import compress_command
from polyadic.cli.decompose import decompose
from polyadic.cli.demo import demo
from polyadic.cli.evaluate import evaluate
from polyadic.cli.inspect import inspect

app = typer.Typer(
    help="Make trained convolutional networks smaller by stable low-rank tensor decomposition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("inspect")(inspect)
app.command("compress")(compress_command)
app.command("evaluate")(evaluate)
app.command("decompose")(decompose)
app.command("demo")(demo)


def main() -> None:
    """Entry point of the command ``polyadic``."""
    app()
