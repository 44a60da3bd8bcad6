"""What scripts, examples and Python in the documents use of the package is there, under that name."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`polyadic\.((?:\w+\.)*)(\w+)[`(]")  # modules, and a name in the last one
FILES = {"json"}  # what goes on after "polyadic." in the name of a file


def imported(module: str, name: str) -> Any:
    """What ``from module import name`` gives.

    Raises:
        AttributeError: nothing.
    """
    try:
        found = import_module(module)
        return getattr(found, name) if hasattr(found, name) else import_module(f"{module}.{name}")
    except ModuleNotFoundError as missing:
        if not str(missing.name).startswith("polyadic"):
            raise
        raise AttributeError(f"{module}.{name}") from None


def faults(tree: ast.Module) -> Iterator[str]:
    """Each name that the code takes from the package and that is not there, each argument that a call gets wrong."""
    bound: dict[str, Any] = {"polyadic": import_module("polyadic")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "polyadic":
            for alias in node.names:
                try:
                    bound[alias.asname or alias.name] = imported(str(node.module), alias.name)
                except AttributeError:
                    yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = bound.get(node.value.id)
            if inspect.ismodule(module) and not hasattr(module, node.attr):
                yield f"{module.__name__}.{node.attr}"
        elif isinstance(node, ast.Call):
            yield from wrong_arguments(node, bound)


def wrong_arguments(call: ast.Call, bound: dict[str, Any]) -> Iterator[str]:
    """Keywords of a call that the function or dataclass of the package does not take."""
    match call.func:
        case ast.Name(id=name):
            function = bound.get(name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if inspect.ismodule(bound.get(name)):
            function = getattr(bound[name], attribute, None)
        case _:
            return
    if inspect.isfunction(function) or is_dataclass(function):
        parameters = inspect.signature(function).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            given = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
            yield from (f"{ast.unparse(call.func)}({word}=)" for word in given if word not in parameters)


def absent(modules: str, name: str) -> bool:
    try:
        imported(f"polyadic.{modules}".rstrip("."), name)
    except AttributeError:
        return True
    return False


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_uses_what_is_there(path: Path) -> None:
    assert list(faults(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_shows_what_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = [fault for block in BLOCK.findall(text) for fault in faults(ast.parse(block))]
    inline = [(modules, name) for modules, name in INLINE.findall(text) if name not in FILES]
    assert [*wrong, *(f"polyadic.{modules}{name}" for modules, name in inline if absent(modules, name))] == []


def test_what_is_not_there_is_found() -> None:
    code = "from polyadic import nothing, find_layers\nimport polyadic\npolyadic.nowhere\nfind_layers(1, image=2)"
    assert list(faults(ast.parse(code))) == ["polyadic.nothing", "polyadic.nowhere", "find_layers(image=)"]


def test_the_floors_are_drawn_as_they_are_checked() -> None:
    layers = next(
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    drawn = re.search(
        r"## Floors\n.*?^```\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert drawn is not None
    assert drawn[1].splitlines() == [floor for floor in layers if floor != "__main__"]
