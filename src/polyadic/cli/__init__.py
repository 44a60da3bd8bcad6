"""The command line: each command parses, calls one verb and prints. A command is loaded when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

COMMANDS = {
    "inspect": "List the layers: what is supported, what is skipped and why, parameters and MACs.",
    "search": "Find format and rank for every layer and write the plan; ``compress --plan`` carries it out.",
    "apply": "Carry out a plan and train nothing: fitted to samples where there are any, else by weights alone.",
    "finetune": "Train a saved result further, on other data or on several devices, and write it to a new folder.",
    "evaluate": "Score a saved result, or a network with its weights, on test images or on samples.",
    "compress": "Make a trained network smaller: search, apply, finetune and evaluate in a row, into one folder.",
    "plan": "Say what a network would cost with a plan that takes no trials, and write that plan.",
    "export": "Write a network as ONNX, OpenVINO or torch.export files, and check that they answer as it does.",
    "bench": "Time networks against each other. The first one is the measure; that of a result is its dense network.",
    "report": "Make a page of a folder that opens anywhere, without a network; or one that compares two results.",
    "quantize": "Bring a compressed network to 8 bits after training, and say what that costs and saves.",
    "decompose": "Decompose one kernel and save its factors as arrays.",
    "analyze": "Study a trained network: what its kernels bear, and where decompositions break down.",
    "demo": "Train a small network on handwritten digits, compress it, reload it, and show what happened.",
}
"""What the list of commands says of each, the verbs first; the command is ``NAME_command`` in ``polyadic.cli.NAME``."""

SHARED = "finetune"
"""The one command whose work several processes of a launcher share; any other they would repeat, over each other."""


class CommandOnDemand(TyperCommand):
    """A command known by its name and a line of help; its module is loaded when it runs or shows its own help."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """That of the command itself, to which click then turns.

        Raises:
            typer.Exit: a launcher has started several processes, for a command that does not share its work.
        """
        if int(os.environ.get("WORLD_SIZE") or 1) > 1 and self.name != SHARED:
            if os.environ.get("RANK", "0") == "0":
                typer.echo(
                    f"error: several processes of a launcher would each run {self.name} as a whole: run it without "
                    f"the launcher, share a search with polyadic search --storage, and fine-tune what it gave with "
                    f"accelerate launch -m polyadic {SHARED}",
                    err=True,
                )
            raise typer.Exit(1)
        return command_named(str(self.name)).make_context(info_name, args, parent=parent, **extra)


def command_named(name: str) -> Any:
    """The click command of that name, with its module loaded."""
    made = getattr(import_module(f"polyadic.cli.{name}"), f"{name}_command")
    if not isinstance(made, typer.Typer):
        function: Callable[..., None] = made
        made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        made.command(name)(function)
    return typer.main.get_command(made)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"polyadic {version('polyadic')}")
        raise typer.Exit


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def polyadic(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Make trained convolutional networks smaller by stable low-rank tensor decomposition."""


for _name, _help in COMMANDS.items():
    app.command(_name, cls=CommandOnDemand, help=_help)(lambda: None)


def main() -> None:
    """Entry point of the command ``polyadic``."""
    app()
