from __future__ import annotations

from pathlib import Path

import pytest
from postgresql import postgresql

__all__ = ["postgresql"]


def empty_storage(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new storage; one server serves all tests, each in its own database."""
    if kind != "postgresql":
        return f"{kind}:///{folder / 'study'}"
    server: str = request.getfixturevalue("postgresql")
    psycopg = pytest.importorskip("psycopg")
    name = f"db{abs(hash(str(folder)))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return server.removesuffix("/postgres") + f"/{name}"


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind."""
    return empty_storage(request.param, request, tmp_path)


@pytest.fixture(params=["journal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sqlite", "postgresql"))])
def url_to_wait_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage for tests that wait for heartbeats: quick in a journal, slow in a database."""
    return empty_storage(request.param, request, tmp_path)
