"""The log of a search: one JSON object per line, written as it happens, from which an interrupted search goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Plan
from polyadic.search.rank_search import Trial
from polyadic.storage import append_line, storage_error, whole_lines


class TrialLog:
    """Trials in ``path``; the first line says which run they belong to."""

    def __init__(self, path: Path | None, run: str, *, resume: bool = False) -> None:
        """Open the log of the run called ``run``, a digest of everything that decides its trials.

        Raises:
            PolyadicError: a log exists and ``resume`` is False, or it belongs to another run.
            StorageError: the file cannot be read or written.
        """
        self.path = path
        self.trials: list[Trial] = []
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise PolyadicError(
                        f"{path} holds trials of an earlier run: go on with --resume or choose another folder"
                    )
                self._read(path, run)
            if not path.exists() or not path.stat().st_size:
                append_line(path, {"run": run})
        except OSError as error:
            raise storage_error(path, error) from error

    def add(self, trial: Trial, details: Mapping[str, Any]) -> None:
        """Keep a trial, on disk before this returns.

        Raises:
            StorageError: the disk refused; the log ends with the last trial that was written whole.
        """
        self.trials.append(trial)
        if self.path is not None:
            line = {"trial": len(self.trials), **trial.to_json(), **details}
            try:
                append_line(self.path, line)
            except OSError as error:
                raise storage_error(self.path, error) from error

    @property
    def running(self) -> tuple[Plan, ...]:
        """None: one worker at a time writes here, and it asks before it begins."""
        return ()

    def claim(self, plan: Plan) -> bool:
        """Yes: nobody else is at work."""
        return True

    def release(self) -> None:
        """Nothing is held."""

    def _read(self, path: Path, run: str) -> None:
        """Take over the whole lines; cut off what a kill left half-written."""
        lines = whole_lines(path)
        if not lines:
            return
        try:
            header = json.loads(lines[0])
            records = [json.loads(line) for line in lines[1:]]
            known = header["run"]
            self.trials = [Trial.from_json(record) for record in records]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} is damaged ({error}): remove it to start the search again") from error
        if known != run:
            raise PolyadicError(
                f"{path} belongs to a run with another model, data or options: repeat those to resume, "
                "or choose another folder"
            )
