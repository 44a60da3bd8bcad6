"""The log of a search: one JSON object per line, written as it happens, from which an interrupted search goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyadic.schema import Plan
from polyadic.search.rank_search import Trial
from polyadic.storage import RecordLog


class TrialLog:
    """Trials in ``path``, of one worker; the first line says which run they belong to."""

    def __init__(self, path: Path | None, run: str, *, resume: bool = False) -> None:
        """Open the log of the run called ``run``, a digest of everything that decides its trials.

        Raises:
            PolyadicError: a log exists and ``resume`` is False, or it belongs to another run.
            StorageError: the file cannot be read or written.
        """
        self._log = RecordLog(path, "run", run, parse=Trial.from_json, holds="trials", resume=resume)
        self.trials: list[Trial] = self._log.records
        self.running: tuple[Plan, ...] = ()  # one worker at a time writes here, and it asks before it begins

    def add(self, trial: Trial, details: Mapping[str, Any]) -> None:
        """Keep a trial, on disk before this returns.

        Raises:
            StorageError: the disk refused; the log ends with the last trial that was written whole.
        """
        self.trials.append(trial)
        self._log.append({"trial": len(self.trials), **trial.to_json(), **details})

    def claim(self, plan: Plan) -> bool:
        """Always True: nobody else is at work."""
        return True

    def release(self) -> None:
        """Nothing is held."""
