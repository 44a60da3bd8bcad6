"""Disks that are full: a real one of 64 KiB where the machine lets us mount it, and one that only says so."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def tiny_disk(folder: Path, size: str = "64k") -> Iterator[Path]:
    """``folder`` as a file system of its own; the test is skipped where that is not allowed."""
    folder.mkdir()
    command = shutil.which("mount")
    if command is None or os.geteuid() != 0:
        pytest.skip("a disk of its own takes root and mount")
    # command and arguments are fixed; only the folder is ours
    mounted = subprocess.run(
        [command, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount refused: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refuse_syncs(monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> None:
    """Let ``after`` files reach the disk; from then on it is full."""
    real, done = os.fsync, []

    def fsync(handle: int) -> None:
        done.append(handle)
        if len(done) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def files_in(folder: Path) -> set[str]:
    """Names of all files, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
