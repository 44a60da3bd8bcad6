"""The command line: each command parses, calls one verb and prints."""

from __future__ import annotations

import typer

from polyadic.cli.analyze import analyze
from polyadic.cli.arguments import reported
from polyadic.cli.bench import bench
from polyadic.cli.compress import compress_command
from polyadic.cli.decompose import decompose
from polyadic.cli.demo import demo
from polyadic.cli.evaluate import evaluate
from polyadic.cli.export import export
from polyadic.cli.inspect import inspect
from polyadic.cli.plan import plan_command
from polyadic.cli.quantize import quantize_command
from polyadic.cli.report import report_command
from polyadic.cli.search import search_command
from polyadic.errors import PolyadicError
from polyadic.training import several


@reported
def checked(context: typer.Context) -> None:
    """Refuse what several processes would only repeat, and write over each other.

    Raises:
        PolyadicError: a launcher has started several, for a command that does not share its work.
    """
    if several() and context.invoked_subcommand != "compress":
        raise PolyadicError(
            f"compress shares its fine-tuning among processes; got several for {context.invoked_subcommand}: run it "
            "without the launcher (workers share a search through --storage)"
        )


app = typer.Typer(
    help="Make trained convolutional networks smaller by stable low-rank tensor decomposition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.callback()(checked)
app.command("inspect")(inspect)
app.command("plan")(plan_command)
app.command("search")(search_command)
app.command("compress")(compress_command)
app.command("evaluate")(evaluate)
app.command("export")(export)
app.command("bench")(bench)
app.command("report")(report_command)
app.command("quantize")(quantize_command)
app.command("decompose")(decompose)
app.command("demo")(demo)
app.add_typer(analyze, name="analyze")


def main() -> None:
    """Entry point of the command ``polyadic``."""
    app()
