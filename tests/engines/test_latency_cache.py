from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from polyadic.engines import LatencyCache, Measured
from polyadic.engines.latency_cache import FILE
from polyadic.errors import StorageError
from polyadic.storage import cache_directory

ONE = Measured(2.0, 1.0, 0.1)


def test_what_was_added_is_there_for_others_and_nothing_else_is(tmp_path: Path) -> None:
    first = LatencyCache(tmp_path / "times")
    assert first.get(("block", 1)) is None
    first.add(("block", 1), ONE)
    assert first.get(("block", 1)) == LatencyCache(tmp_path / "times").get(("block", 1)) == ONE
    assert LatencyCache(tmp_path / "times").get(("block", 2)) is None
    assert LatencyCache(None).get(("block", 1)) is None


def test_another_machine_measures_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LatencyCache(tmp_path).add("block", ONE)
    monkeypatch.setattr("polyadic.engines.latency_cache.processor", lambda: "another processor")
    assert LatencyCache(tmp_path).get("block") is None


def test_the_first_of_two_records_counts_for_everybody(tmp_path: Path) -> None:
    slow, quick = LatencyCache(tmp_path), LatencyCache(tmp_path)
    quick.add("block", ONE)
    slow.add("block", Measured(4.0, 3.0, 0.2))
    assert LatencyCache(tmp_path).get("block") == ONE


def test_damaged_lines_count_as_absent_and_do_no_harm_to_others(tmp_path: Path) -> None:
    cache = LatencyCache(tmp_path)
    for name in ("a", "b", "c"):
        cache.add(name, ONE)
    lines = (tmp_path / FILE).read_bytes().splitlines()
    broken = json.loads(lines[1]) | {"dense": "fast"}
    infinite = json.loads(lines[2]) | {"chain": float("nan")}
    text = b"\n".join(
        [lines[0], json.dumps(broken).encode(), json.dumps(infinite).encode(), b"\xff{", b"[1]", lines[2][:20]]
    )
    (tmp_path / FILE).write_bytes(text + b"\n")
    again = LatencyCache(tmp_path)
    assert [again.get(name) for name in ("a", "b", "c")] == [ONE, None, None]
    again.add("b", ONE)
    assert LatencyCache(tmp_path).get("b") == ONE


def _write(directory: str, worker: int) -> None:
    cache = LatencyCache(Path(directory))
    for number in range(20):
        cache.add((worker, number), Measured(1.0 + worker, 1.0 + number, 0.0))


def test_several_processes_write_at_once_and_no_line_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(str(tmp_path), worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cache = LatencyCache(tmp_path)
    assert all(
        cache.get((worker, number)) == Measured(1.0 + worker, 1.0 + number, 0.0)
        for worker in range(4)
        for number in range(20)
    )


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="check the path and its permissions"):
        LatencyCache(tmp_path / "file" / "below").add("block", ONE)


def test_times_lie_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory("latency") == Path("/somewhere/polyadic/latency")
