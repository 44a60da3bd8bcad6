"""One of several workers carries out the plan; the others are told who."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import polyadic.search.claim as claim
from polyadic.errors import ConcludedElsewhereError, StorageError
from polyadic.search import concluding

PATIENCE: dict[str, Any] = {"interval": 0.1, "patience": 2.0}


def elsewhere(patch: pytest.MonkeyPatch) -> None:
    """This process is one of another machine from now on."""
    patch.setattr(claim.socket, "gethostname", lambda: "far-away")


def test_while_one_concludes_another_is_told_who_and_where(url: str) -> None:
    with concluding(url, "run", where="runs/a", **PATIENCE):
        words = r"worker .*:\d+ carries out the plan .* in runs/a;"
        with pytest.raises(ConcludedElsewhereError, match=words) as told, concluding(url, "run", **PATIENCE):
            pytest.fail("two at once")
        assert told.value.worker.rpartition(":")[2].isdigit()
        with concluding(url, "another run", **PATIENCE):
            pass


def test_what_is_concluded_is_done_again_only_where_that_is_asked_for(url: str) -> None:
    with concluding(url, "run", where="runs/a", **PATIENCE):
        pass
    words = r"has concluded the run .* in runs/a.*--resume"
    with pytest.raises(ConcludedElsewhereError, match=words), concluding(url, "run", **PATIENCE):
        pytest.fail("twice")
    reached = []
    with concluding(url, "run", again=True, **PATIENCE):
        reached.append("again")
    assert reached == ["again"]


def test_a_conclusion_that_failed_is_free_again(url: str) -> None:
    with pytest.raises(MemoryError), concluding(url, "run", **PATIENCE):
        raise MemoryError
    with concluding(url, "run", **PATIENCE):
        pass


def test_the_conclusion_of_a_process_that_was_killed_is_free_at_once(url: str) -> None:
    script = f"""
import os, signal
from polyadic.search import concluding
with concluding({url!r}, "run"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode < 0
    with concluding(url, "run"):  # the patience is that of every day: 90 s
        pass


def test_a_worker_elsewhere_that_shows_life_is_left_to_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        elsewhere(patch)
        other = concluding(url, "run", **PATIENCE)
        other.__enter__()
    with pytest.raises(ConcludedElsewhereError, match="worker far-away:"), concluding(url, "run", **PATIENCE):
        pytest.fail("two at once")
    other.__exit__(None, None, None)


def test_a_worker_elsewhere_that_is_silent_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        elsewhere(patch)
        other = concluding(url, "run", interval=1000.0)
        other.__enter__()
    reached = []
    with concluding(url, "run", **PATIENCE):
        reached.append("ours")
    assert reached == ["ours"]


def test_without_a_storage_nobody_is_asked() -> None:
    with concluding(None, "run"), concluding(None, "run"):
        pass


def test_a_storage_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError), concluding(f"sqlite:///{tmp_path / 'file' / 'study'}", "run"):
        pytest.fail("no storage")
