from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyadic.errors import PolyadicError, StorageError
from polyadic.studies.row_file import RowFile, as_csv, as_json


def test_rows_outlive_the_process_and_a_half_written_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.jsonl"
    file = RowFile(path, "s")
    file.add("a", {"x": 1.5, "ranks": (2, 3), "bad": float("inf")})
    with path.open("a") as stream:
        stream.write('{"key": "b", "ro')
    again = RowFile(path, "s", resume=True)
    assert "a" in again
    assert "b" not in again
    assert again["a"] == file["a"] == {"x": 1.5, "ranks": [2, 3], "bad": None}
    again.add("b", {"x": 2})
    assert RowFile(path, "s", resume=True)["b"] == {"x": 2}


def test_rows_of_another_study_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowFile(path, "s").add("a", {})
    with pytest.raises(PolyadicError, match="earlier study: go on with --resume"):
        RowFile(path, "s")
    with pytest.raises(PolyadicError, match="another model, data or options"):
        RowFile(path, "t", resume=True)
    path.write_text('{"study": "s"}\n{"row": 1}\n')
    with pytest.raises(StorageError, match="damaged"):
        RowFile(path, "s", resume=True)


def test_tables_have_empty_cells_and_json_has_no_infinity() -> None:
    rows = [{"a": 1, "b": [2, 3]}, {"a": None, "b": "x,y"}]
    assert as_csv(rows, ["a", "b"]).decode() == 'a,b\n1,2+3\n,"x,y"\n'
    assert json.loads(as_json({"a": (float("nan"), 1.0)})) == {"a": [None, 1.0]}
