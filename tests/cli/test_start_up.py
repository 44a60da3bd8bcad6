"""What starts and what does not: names and commands are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from stage import run

import polyadic
from polyadic.cli import COMMANDS, command_named

HEAVY = ("torch", "optuna", "sqlalchemy", "scipy", "jinja2")
"""Packages that cost a second or more between them."""


def loaded(code: str) -> set[str]:
    """Which of the heavy packages a new interpreter has loaded after ``code``."""
    told = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_the_list_of_commands_and_the_version_load_no_torch(word: str) -> None:
    assert loaded(f"from polyadic.cli import app\napp([{word!r}], standalone_mode=False)") == set()


def test_the_library_alone_loads_nothing() -> None:
    assert loaded("import polyadic\nassert 'compress' in dir(polyadic)") == set()


@pytest.mark.parametrize("names", [("compress",), ("find_plan", "apply_plan", "finetune", "load", "save", "CP")])
def test_the_verbs_load_torch_and_neither_optuna_nor_a_template_engine(names: tuple[str, ...]) -> None:
    assert loaded(f"from polyadic import {', '.join(names)}") == {"torch"}


def test_every_public_name_is_there_once_and_no_other() -> None:
    assert sorted(polyadic.__all__) == sorted(polyadic._HOME)
    assert all(getattr(polyadic, name) is not None for name in polyadic.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = polyadic.compres
    assert polyadic.layers is import_module("polyadic.layers")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_says(name: str) -> None:
    function = getattr(import_module(f"polyadic.cli.{name}"), f"{name}_command")
    said = function.info.help if isinstance(function, typer.Typer) else function.__doc__
    assert said.partition("\n\n")[0] == COMMANDS[name]
    assert command_named(name).name in (name, "")


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    result = run("ispect")
    assert result.exit_code == 2
    assert "inspect" in result.stderr
    assert run("--version").stdout.startswith("polyadic ")
