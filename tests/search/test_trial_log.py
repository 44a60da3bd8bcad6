from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from disks import refuse_syncs, tiny_disk
from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Choice, Plan
from polyadic.search import Trial, TrialLog

TRIALS = [
    Trial(Plan((Choice("a", "cp-epc", (3,)),)), 0.25, final=False),
    Trial(Plan((Choice("b.0", "tucker2", (3, 4)),)), -1.0),
    Trial(Plan((Choice("a", "svd", (1,)), Choice("c", "svd", (2,)))), 1e-17),
]


def keep(log: TrialLog, trial: Trial, **details: Any) -> None:
    assert log.run_trial(trial.plan, lambda _: (trial, details))


def written(path: Path, count: int = 3, run: str = "run") -> TrialLog:
    log = TrialLog(path, run)
    for trial in TRIALS[:count]:
        keep(log, trial, seconds=0.5)
    return log


def test_a_line_is_on_disk_when_add_returns_and_holds_its_details(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trials.jsonl"
    log = TrialLog(path, "run")
    assert json.loads(path.read_text()) == {"run": "run"}
    for number, trial in enumerate(TRIALS, start=1):
        keep(log, trial, seconds=0.5)
        last = json.loads(path.read_text().splitlines()[-1])
        assert (last["trial"], last["drop"], last["seconds"]) == (number, trial.drop, 0.5)
        assert Plan.from_json(last["plan"]) == trial.plan


def test_a_resumed_log_holds_the_same_trials_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    written(path, 2)
    before = path.read_bytes()
    log = TrialLog(path, "run", resume=True)
    assert log.trials == TRIALS[:2]
    assert path.read_bytes() == before
    keep(log, TRIALS[2])
    assert TrialLog(path, "run", resume=True).trials == TRIALS
    assert path.read_bytes().startswith(before)


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = TrialLog(None, "run")
    keep(log, TRIALS[0])
    assert log.trials == TRIALS[:1]
    assert os.listdir(tmp_path) == []


def fill(log: TrialLog) -> None:
    """Add trials of a kilobyte each until the disk refuses."""
    for _ in range(100):
        keep(log, TRIALS[0], padding="x" * 1000)


def test_every_possible_cut_of_the_file_keeps_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    written(path)
    content = path.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        log = TrialLog(path, "run", resume=True)
        whole = max(content[:end].count(b"\n") - 1, 0)
        assert log.trials == TRIALS[:whole]
        for trial in TRIALS[whole:]:
            keep(log, trial, seconds=0.5)
        assert path.read_bytes() == content


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    written(path)
    before = path.read_bytes()
    with pytest.raises(PolyadicError, match="--resume or choose another folder"):
        TrialLog(path, "run")
    with pytest.raises(PolyadicError, match="belongs to a run with another model, data or options"):
        TrialLog(path, "other", resume=True)
    assert path.read_bytes() == before


def test_a_resumed_run_may_be_the_first(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    assert TrialLog(path, "run", resume=True).trials == []
    (tmp_path / "empty.jsonl").touch()
    assert TrialLog(tmp_path / "empty.jsonl", "run").trials == []
    assert (tmp_path / "empty.jsonl").read_bytes() == path.read_bytes() == b'{"run": "run"}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"not JSON\n",
        b"[]\n",
        b'{"other": 1}\n',
        b"\xff\xfe\n",
        b'{"run": "run"}\n{"trial": 1}\n',
        b'{"run": "run"}\n{"plan": [{"layer": "a"}], "drop": 1.0, "final": true}\n',
        b'{"run": "run"}\n{"plan": [], "drop": "much", "final": true}\n',
        b'{"run": "run"}\ngarbage\n{"plan": [], "drop": 1.0, "final": true}\n',
    ],
)
def test_a_damaged_log_is_said_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"is damaged .*: remove it to start the run again"):
        TrialLog(path, "run", resume=True)
    assert path.read_bytes() == content


def test_a_full_disk_is_said_and_the_log_still_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.jsonl"
    log = written(path, 1)
    with monkeypatch.context() as full:
        refuse_syncs(full)
        with pytest.raises(StorageError, match="free disk space"):
            keep(log, TRIALS[1])
    assert TrialLog(path, "run", resume=True).trials[:1] == TRIALS[:1]


def test_on_a_really_full_disk_the_log_ends_with_a_whole_trial(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        log = TrialLog(disk / "trials.jsonl", "run")
        with pytest.raises(StorageError, match="free disk space"):
            fill(log)
        kept = len(log.trials) - 1
        (disk / "trials.jsonl").chmod(0o600)
        back = TrialLog(disk / "trials.jsonl", "run", resume=True)
        assert back.trials == log.trials[:kept]
        assert kept > 50


def test_a_path_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="check the path and its permissions"):
        TrialLog(tmp_path / "file" / "trials.jsonl", "run")
