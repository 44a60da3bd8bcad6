"""One trained network for all commands; nothing is written outside temporary folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from stage import LONG, World, build_world


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("factors")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYADIC_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Result]:
    """A folder with the result of an uninterrupted run, and what the command said."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYADIC_CACHE", str(cache))
        return out, world.compress(out, "--json", **LONG)
