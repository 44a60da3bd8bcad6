"""Times that were measured before, on disk: lines of JSON that any number of processes may add to."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from polyadic.storage import append_line, storage_error

FILE = "times.jsonl"

_METHOD = 3
"""Of how times are taken and blocks are built: where that changes this grows, and older times count no more."""


@dataclass(frozen=True)
class Measured:
    """Two times that were taken in turns, in milliseconds of one pass.

    Attributes:
        dense: of what is to be replaced.
        chain: of what would take its place.
        noise: by how much their difference may be off.
    """

    dense: float
    chain: float
    noise: float


class LatencyCache:
    """Measured times by everything that decides them, the processor included.

    Each record is one line, added in one write, so several processes may share a folder. A line that is damaged counts
    as absent; of several records of one thing the first counts, so that all processes agree.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Keep lines in ``directory``; None keeps them for as long as the object lives."""
        self.directory = directory
        self._known: dict[str, Measured] = {}
        if directory is not None:
            self._read(directory / FILE)

    def get(self, what: object) -> Measured | None:
        """What was measured of ``what``, whose ``repr`` says all that decides it but for the machine."""
        return self._known.get(_key(what))

    def add(self, what: object, measured: Measured) -> Measured:
        """Keep a record, on disk before this returns; what counts from now on.

        Raises:
            StorageError: the file system refused.
        """
        key = _key(what)
        if self.directory is not None:
            path = self.directory / FILE
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                append_line(path, {"key": key, "what": repr(what), "machine": processor(), **asdict(measured)})
            except OSError as error:
                raise storage_error(path, error) from error
        return self._known.setdefault(key, measured)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
        except OSError as error:
            raise storage_error(path, error) from error
        for line in lines:
            record = _record(line)
            if record is not None:
                self._known.setdefault(*record)


def default_latency_directory() -> Path:
    """``polyadic/latency`` in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyadic" / "latency"


@cache
def processor() -> str:
    """The processor's name and how many there are: times of one machine say nothing of another."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(errors="replace").splitlines())
        named = {key.strip(): value.strip() for key, _, value in lines}
        parts = (named.get(key, "") for key in ("model name", "cpu family", "model", "stepping"))
        name = " ".join(part for part in parts if part) or name
    return f"{name}, {os.cpu_count()} cores"


def _key(what: object) -> str:
    return hashlib.sha256(repr((_METHOD, processor(), what)).encode()).hexdigest()


def _record(line: bytes) -> tuple[str, Measured] | None:
    """A line's key and times; None where it is damaged."""
    try:
        record: dict[str, Any] = json.loads(line)
        measured = Measured(float(record["dense"]), float(record["chain"]), float(record["noise"]))
        key = str(record["key"])
    except (ValueError, KeyError, TypeError):
        return None
    times = (measured.dense, measured.chain)
    return (key, measured) if all(math.isfinite(time) and time > 0 for time in times) else None
