"""Rows of a study: kept on disk as they are measured, so that an interrupted study goes on, and written as tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polyadic.errors import PolyadicError, StorageError
from polyadic.storage import append_line, as_plain, storage_error, whole_lines

Row = Mapping[str, Any]


class RowFile:
    """Rows under keys in ``path``, one JSON object per line; the first line says which study they belong to."""

    def __init__(self, path: Path | None, study: str, *, resume: bool = False) -> None:
        """Open the file of the study called ``study``, a digest of everything that decides its rows.

        Args:
            path: None keeps rows in memory alone.
            study: the digest.
            resume: whether rows that are there may be taken over.

        Raises:
            PolyadicError: rows are there and ``resume`` is False, or they belong to another study.
            StorageError: the file cannot be read or written.
        """
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise PolyadicError(f"{path} holds rows of an earlier study: go on with --resume or choose another")
                self._read(path, study)
            if not path.exists() or not path.stat().st_size:
                append_line(path, {"study": study})
        except OSError as error:
            raise storage_error(path, error) from error

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def add(self, key: str, row: Row) -> None:
        """Keep ``row``, on disk before this returns.

        Raises:
            StorageError: the disk refused; the file ends with the last row that was written whole.
        """
        # the text and back, so that a row is the same whether it was measured now or read again
        line = json.dumps({"key": key, "row": as_plain(row)}, allow_nan=False)
        self._rows[key] = json.loads(line)["row"]
        if self.path is not None:
            try:
                append_line(self.path, json.loads(line))
            except OSError as error:
                raise storage_error(self.path, error) from error

    def _read(self, path: Path, study: str) -> None:
        """Take over the whole lines; cut off what a kill left half-written."""
        lines = whole_lines(path)
        if not lines:
            return
        try:
            known = json.loads(lines[0])["study"]
            self._rows = {record["key"]: dict(record["row"]) for record in map(json.loads, lines[1:])}
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} is damaged ({error}): remove it to start the study again") from error
        if known != study:
            raise PolyadicError(
                f"{path} belongs to a study with another model, data or options: repeat those to resume, or choose "
                "another folder"
            )


def as_csv(rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """A table with a header; cells without a value are empty, and several ranks are joined by +."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue().encode()


def as_json(document: Row) -> bytes:
    """One JSON object, indented."""
    return (json.dumps(as_plain(document), indent=1, allow_nan=False) + "\n").encode()


def _cell(value: Any) -> Any:
    return "+".join(str(item) for item in value) if isinstance(value, list | tuple) else value
