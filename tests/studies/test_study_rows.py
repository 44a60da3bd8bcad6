from __future__ import annotations

from pathlib import Path

import pytest

from polyadic.errors import PolyadicError, StorageError
from polyadic.studies.study import RowFile, as_csv


def test_rows_outlive_the_process_and_a_half_written_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.jsonl"
    file = RowFile(path.parent, "s")
    file.add("a", {"x": 1.5, "ranks": (2, 3), "bad": float("inf")})
    with path.open("a") as stream:
        stream.write('{"key": "b", "ro')
    again = RowFile(path.parent, "s", resume=True)
    assert "a" in again
    assert "b" not in again
    assert again["a"] == file["a"] == {"x": 1.5, "ranks": [2, 3], "bad": None}
    again.add("b", {"x": 2})
    assert RowFile(path.parent, "s", resume=True)["b"] == {"x": 2}


def test_rows_of_another_study_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowFile(path.parent, "s").add("a", {})
    with pytest.raises(PolyadicError, match="earlier study: go on with --resume"):
        RowFile(path.parent, "s")
    with pytest.raises(PolyadicError, match="another model, data or options"):
        RowFile(path.parent, "t", resume=True)
    path.write_text('{"study": "s"}\n{"row": 1}\n')
    with pytest.raises(StorageError, match="damaged"):
        RowFile(path.parent, "s", resume=True)


def test_only_rows_that_are_not_there_are_measured() -> None:
    file, told = RowFile(None, "s"), list[tuple[int, int, str]]()
    file.add("a", {"x": 1})
    runs = {"a": lambda: {"x": 3}, "b": lambda: {"x": 2}}
    assert file.measure(runs, lambda *at: told.append(at)) == [{"x": 1}, {"x": 2}]
    assert told == [(0, 2, "a"), (1, 2, "b")]


def test_tables_have_empty_cells_and_several_ranks_in_one() -> None:
    rows = [{"a": 1, "b": [2, 3]}, {"a": None, "b": "x,y"}]
    assert as_csv(rows).decode() == 'a,b\n1,2+3\n,"x,y"\n'
