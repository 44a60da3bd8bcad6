"""Rows of a study: kept on disk as they are measured, so that an interrupted study goes on, and written as tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polyadic.storage import RecordLog, as_plain, json_bytes

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
        self._log = RecordLog(
            path, "study", study, parse=lambda line: (str(line["key"]), dict(line["row"])), holds="rows", resume=resume
        )
        self._rows = dict(self._log.records)

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
        line = json.loads(json.dumps({"key": key, "row": as_plain(row)}, allow_nan=False))
        self._rows[key] = line["row"]
        self._log.append(line)


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
    return json_bytes(document)


def _cell(value: Any) -> Any:
    return "+".join(str(item) for item in value) if isinstance(value, list | tuple) else value
