"""What commands print: tables and sentences, one sentence for an error, one JSON object for a program."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.table import Table

from polyadic.errors import PolyadicError

console = Console(stderr=True)
"""Where progress and errors go; what a command has to say goes to standard output."""

Arguments = ParamSpec("Arguments")


def report_errors(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn errors raised on purpose into one sentence on stderr and exit status 1; Ctrl-C into status 130."""

    @wraps(command)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PolyadicError as error:
            console.print("[bold red]error:[/]", end=" ")
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            console.print("interrupted: what was finished is kept; go on with --resume")
            raise typer.Exit(130) from error

    return wrapper


def command_line() -> str:
    """The command as it was given, to be kept with what it made; passwords in addresses are left out."""
    words = (re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", word) for word in sys.argv[1:])
    return shlex.join(["polyadic", *words])


def emit(document: dict[str, Any]) -> None:
    """Print one JSON object on the last line of stdout."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def say(*sentences: str) -> None:
    """Print sentences as they are, each on a line of its own however long it is."""
    for sentence in sentences:
        Console().print(sentence, markup=False, highlight=False, soft_wrap=True)


def warn(*warnings: str) -> None:
    """Print what the user has to know before relying on a result."""
    for warning in warnings:
        Console().print("[bold yellow]warning:[/]", end=" ")
        say(warning)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] | None = None
) -> None:
    """Print a table.

    Args:
        title: above it.
        columns: their headings.
        rows: their cells, as many as there are columns.
        numbers: headings of columns that are set flush right.
    """
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right" if column in (numbers or ()) else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
