"""Times that were measured before, on disk: lines of JSON that any number of processes may add to."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from polyadic.engines.machine import processor_fields
from polyadic.storage import append_record, content_key, read_records

FILE = "times.jsonl"

_METHOD = 4
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
            for key, measured in read_records(directory / FILE, _parse)[0]:
                self._known.setdefault(key, measured)

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
            record = {"key": key, "what": repr(what), "machine": processor(), **asdict(measured)}
            append_record(self.directory / FILE, record)
        return self._known.setdefault(key, measured)


@cache
def processor() -> str:
    """The processor's name and how many there are: times of one machine say nothing of another."""
    fields = processor_fields()
    parts = (fields.get(key, "") for key in ("model name", "cpu family", "model", "stepping"))
    name = " ".join(part for part in parts if part) or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _key(what: object) -> str:
    return content_key((_METHOD, processor(), what))


def _parse(record: dict[str, Any]) -> tuple[str, Measured]:
    """A record's key and times.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    measured = Measured(float(record["dense"]), float(record["chain"]), float(record["noise"]))
    if not all(math.isfinite(time) and time > 0 for time in (measured.dense, measured.chain)):
        raise ValueError(f"times are finite and above 0; got {measured}")
    return str(record["key"]), measured
