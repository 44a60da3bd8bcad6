"""Two processes do not write to one folder at once; a lock ends with its process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import polyadic.storage.locks as locking
from disks import files_in
from polyadic.errors import PolyadicError, StorageError
from polyadic.storage import folder_lock

pytestmark = pytest.mark.skipif(locking.fcntl is None, reason="this system has no flock")

HOLD = """
import sys
from pathlib import Path
from polyadic.storage import folder_lock

with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def enter(folder: Path) -> None:
    with folder_lock(folder):
        pass


def test_the_second_process_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    first = holder(tmp_path)
    with pytest.raises(PolyadicError) as refused:
        enter(tmp_path)
    assert f"process {first.pid} writes to {tmp_path}: wait until it has ended, or choose" in str(refused.value)
    first.communicate("")
    assert files_in(tmp_path) == set()
    enter(tmp_path)


def test_a_killed_process_leaves_no_lock_and_what_it_half_wrote_is_removed(tmp_path: Path) -> None:
    first = holder(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / ".plan.json.x1.partial").touch()
    assert files_in(tmp_path) == {".lock", ".plan.json.x1.partial"}
    with folder_lock(tmp_path):
        assert files_in(tmp_path) == {".lock"}
        assert (tmp_path / ".lock").read_text().split()[0] == str(os.getpid())
    assert files_in(tmp_path) == set()


def test_a_folder_made_for_the_lock_goes_with_it_unless_something_is_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folder_lock(tmp_path / "a" / "b"):
        raise RuntimeError
    assert not (tmp_path / "a").exists()
    with folder_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert files_in(tmp_path) == {"a/b/result"}
    (tmp_path / "there").mkdir()
    enter(tmp_path / "there")
    assert (tmp_path / "there").is_dir()


def test_a_folder_that_is_removed_meanwhile_ends_in_peace(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "out"):
        (tmp_path / "out" / ".lock").unlink()
        (tmp_path / "out").rmdir()


def test_a_file_in_the_place_of_the_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="could not be read or written"):
            enter(folder)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locking.fcntl, "flock", refuse)
    with folder_lock(tmp_path), folder_lock(tmp_path):
        assert files_in(tmp_path) == set()


def test_of_many_who_ask_at_once_never_two_are_in(tmp_path: Path) -> None:
    """Each removes the file at the end: who has opened it by then must not take it for the lock."""
    inside, most, entered = [], [0], [0]

    def ask() -> None:
        for _ in range(300):
            try:
                with folder_lock(tmp_path / "out"):
                    inside.append(1)
                    most[0] = max(most[0], len(inside))
                    entered[0] += 1
                    inside.pop()
            except PolyadicError:
                continue

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert entered[0] > 20
