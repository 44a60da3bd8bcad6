from __future__ import annotations

from pathlib import Path

import pytest
from postgresql import postgresql

__all__ = ["postgresql"]


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind; one server serves all tests, each in its own database."""
    if request.param != "postgresql":
        return f"{request.param}:///{tmp_path / 'study'}"
    server: str = request.getfixturevalue("postgresql")
    return new_database(server, tmp_path)


@pytest.fixture
def postgresql_url(postgresql: str, tmp_path: Path) -> str:
    """An empty database."""
    return new_database(postgresql, tmp_path)


def new_database(server: str, folder: Path) -> str:
    """A database named after the folder of a test."""
    psycopg = pytest.importorskip("psycopg")
    name = f"db{abs(hash(str(folder)))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return server.removesuffix("/postgres") + f"/{name}"
