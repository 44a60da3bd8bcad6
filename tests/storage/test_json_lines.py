from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polyadic.errors import PolyadicError, StorageError
from polyadic.storage import RecordLog, append_record, read_records


def number(record: dict[str, Any]) -> int:
    return int(record["number"])


def opened(path: Path | None, digest: str = "digest", *, resume: bool = False) -> RecordLog[int]:
    return RecordLog(path, "study", digest, parse=number, holds="numbers", resume=resume)


def test_records_are_read_again_by_the_run_that_wrote_them_and_by_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    log = opened(path)
    for count in range(3):
        log.append({"number": count})
    assert path.read_text().splitlines()[0] == '{"study": "digest"}'
    assert opened(path, resume=True).records == [0, 1, 2]
    with pytest.raises(PolyadicError, match=r"holds numbers of an earlier study: go on with --resume"):
        opened(path)
    with pytest.raises(PolyadicError, match="belongs to a study with another model"):
        opened(path, "other", resume=True)


def test_every_possible_cut_keeps_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = opened(path)
    for count in range(3):
        log.append({"number": count})
    content = path.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        whole = max(content[:end].count(b"\n") - 1, 0)
        assert opened(path, resume=True).records == list(range(whole))
        assert path.read_bytes().endswith(b"\n")


def test_without_a_path_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened(None).append({"number": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"other": 1}', '{"number": "many"}'])
def test_a_line_that_is_no_record_is_said_in_a_log_and_left_out_elsewhere(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"study": "digest"}\n' + line + '\n{"number": 5}\n')
    with pytest.raises(StorageError, match=r"is damaged .*: remove it to start the study again"):
        opened(path, resume=True)
    assert read_records(path, number) == ([5], 2), "the header is no number either"


def test_lines_of_several_writers_stand_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "shared.jsonl"
    assert read_records(path, number) == ([], 0)
    for count in range(3):
        append_record(path, {"number": count})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"number": n} for n in range(3)]
    assert read_records(path, number) == ([0, 1, 2], 0)


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for refused in (
        lambda: opened(tmp_path / "file" / "log.jsonl"),
        lambda: append_record(tmp_path / "file" / "log.jsonl", {}),
        lambda: append_record(tmp_path, {}),
        lambda: read_records(tmp_path, number),
    ):
        with pytest.raises(StorageError, match="check the path and its permissions"):
            refused()
