from __future__ import annotations

from pathlib import Path

import pytest
from postgresql import postgresql

__all__ = ["postgresql"]


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind; one database serves all tests, each in its own schema."""
    if request.param != "postgresql":
        return f"{request.param}:///{tmp_path / 'deep' / 'study'}"
    server: str = request.getfixturevalue("postgresql")
    psycopg = pytest.importorskip("psycopg")
    name = f"db{abs(hash(str(tmp_path)))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return server.removesuffix("/postgres") + f"/{name}"
