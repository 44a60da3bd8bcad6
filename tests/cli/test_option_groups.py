"""Option groups: fields of a dataclass become options of a command, under a heading, and come back as the dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
import typer
from stage import run
from typer.testing import CliRunner

from polyadic.cli.option_groups import command
from polyadic.errors import PolyadicError


@dataclass(frozen=True, kw_only=True)
class Fruit:
    panel: ClassVar[str] = "Fruit"
    name: Annotated[str, typer.Argument(help="of the fruit")]
    count: Annotated[int, typer.Option(help="how many", metavar="NUMBER")] = 1


@dataclass(frozen=True, kw_only=True)
class Apples(Fruit):
    count: Annotated[int, typer.Option(help="how many apples")] = 7


def called(group: Any, *words: str) -> tuple[Any, list[object]]:
    """What typer answers to ``words``, and what the command was given."""
    given: list[object] = []

    def pick(fruit: Any, *, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        given.extend((fruit, loud))
        if loud:
            raise PolyadicError("too loud")

    pick.__annotations__["fruit"] = group
    app = typer.Typer(add_completion=False)
    app.command()(command(pick))
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "120"}), given


def test_a_command_gets_its_groups_with_what_was_given_and_what_was_not() -> None:
    assert called(Fruit, "pear", "--count", "3")[1] == [Fruit(name="pear", count=3), False]
    assert called(Fruit, "pear")[1] == [Fruit(name="pear", count=1), False]
    assert called(Apples, "cox")[1] == [Apples(name="cox", count=7), False]


def test_options_stand_under_the_heading_of_their_group() -> None:
    said = called(Apples, "--help")[0].stdout
    assert said.index("─ Options") < said.index("─ Fruit") < said.index("how many apples")
    assert Fruit.__dataclass_fields__["count"].default == 1


def test_an_error_raised_on_purpose_is_one_sentence() -> None:
    result, given = called(Fruit, "pear", "--loud")
    assert given[1] is True
    assert (result.exit_code, result.stderr) == (1, "error: too loud\n")


@pytest.mark.parametrize(
    ("name", "headings"),
    [
        ("search", ("Model", "Data", "Goal", "Search", "Engine", "Run")),
        ("compress", ("Model", "Data", "Goal", "Search", "Engine", "Fine-tuning", "Run")),
        ("plan", ("Model", "Data", "Goal", "Search", "Engine")),
        ("inspect", ("Model", "Data")),
    ],
)
def test_the_help_of_the_commands_is_in_groups(name: str, headings: tuple[str, ...]) -> None:
    said = run(name, "--help").stdout
    assert all(f"─ {heading} " in said for heading in headings)
    assert "--weights" in said
    assert ("--finetune-recovery-factor" in said) == ("--max-drop-per-layer" in said) == ("Run" in headings)
