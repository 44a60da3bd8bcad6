from __future__ import annotations

import math
from pathlib import Path

import pytest

from polyadic.errors import StorageError
from polyadic.storage import json_bytes, read_document


def test_a_document_comes_back_as_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(json_bytes({"version": 1, "ranks": (1, 2), "loss": math.inf, "é": {3: math.nan}}))
    assert path.read_bytes().endswith(b"}\n")
    assert read_document(path, version=1) == {"version": 1, "ranks": [1, 2], "loss": None, "é": {"3": None}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[1]", "holds a JSON object; got a list"),
        (b"{}", "has version None; this release reads version 1"),
        (b'{"version": 2}', "has version 2; this release reads version 1"),
    ],
)
def test_what_is_no_such_document_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=message):
        read_document(path, version=1)


def test_a_missing_document_is_said_and_any_version_may_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="check the path"):
        read_document(tmp_path / "absent.json")
    (tmp_path / "document.json").write_text('{"version": 7}')
    assert read_document(tmp_path / "document.json") == {"version": 7}
