"""What all studies do alike: choose layers, keep rows as they are measured, write tables and one JSON document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from polyadic.errors import LayerError
from polyadic.schema import DegeneracyStudy, JsonObject, LayerSite, LayerStudy, TruncationStudy
from polyadic.storage import RecordLog, as_plain, json_bytes, write_together
from polyadic.surgery import check_patterns, matches_any

Row = Mapping[str, Any]
Kind = TypeVar("Kind")

OnProgress = Callable[[int, int, str], None]
"""Called before each row with the number of rows done, of all rows, and the row's key."""


class RowFile:
    """Rows under keys in a file, one JSON object per line, so that an interrupted study goes on."""

    def __init__(self, work: Path | None, study: str, *, resume: bool = False) -> None:
        """Open ``rows.jsonl`` in ``work`` for the study called ``study``, a digest of everything that decides its rows.

        Args:
            work: None keeps rows in memory alone.
            study: the digest.
            resume: whether rows that are there may be taken over.

        Raises:
            PolyadicError: rows are there and ``resume`` is False, or they belong to another study.
            StorageError: the file is damaged, or cannot be read or written.
        """
        path = None if work is None else work / "rows.jsonl"
        self._log = RecordLog(path, "study", study, parse=_keyed_row, holds="rows", resume=resume)
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
        record = json.loads(json.dumps({"key": key, "row": as_plain(row)}, allow_nan=False))
        self._rows[key] = record["row"]
        self._log.append(record)

    def measure(
        self, runs: Mapping[str, Callable[[], Row]], on_progress: OnProgress | None = None
    ) -> list[dict[str, Any]]:
        """The rows under the keys of ``runs``, in their order; those that are not there yet are measured.

        Raises:
            StorageError: a row could not be written.
        """
        for done, (key, measured) in enumerate(runs.items()):
            if on_progress is not None:
                on_progress(done, len(runs), key)
            if key not in self:
                self.add(key, measured())
        return [self[key] for key in runs]


def rows_of(kind: type[Kind], rows: Iterable[Row]) -> tuple[Kind, ...]:
    """Rows of a file as what they are.

    Raises:
        StorageError: a column is missing or of another kind.
    """
    remedy = "remove it to start the study again"
    return tuple(JsonObject(as_plain(row), "a row of the study", remedy).whole(kind) for row in rows)


def wanted_layers(sites: Iterable[LayerSite], patterns: Sequence[str]) -> list[LayerSite]:
    """The layers to look at: those of the names or patterns with *, all of them where there is none.

    Raises:
        LayerError: a pattern matches no layer.
    """
    sites = list(sites)
    check_patterns(patterns, [site.name for site in sites], "layers")
    return [site for site in sites if not patterns or matches_any(site.name, patterns)]


def choose_layers(
    sites: Iterable[LayerSite], patterns: Sequence[str], why_not: Callable[[LayerSite], str | None]
) -> tuple[list[LayerSite], dict[str, str]]:
    """The layers to look at, and why others of those that were asked for are left out."""
    asked = wanted_layers(sites, patterns)
    skipped = {site.name: reason for site in asked if (reason := why_not(site)) is not None}
    return [site for site in asked if site.name not in skipped], skipped


def no_layer(needed: str, skipped: Mapping[str, str]) -> LayerError:
    """Say that nothing is left to study, and why each layer is not."""
    reasons = ", ".join(f"{name} ({reason})" for name, reason in skipped.items()) or "no layer of that name"
    return LayerError(f"{needed}; got {reasons}: name other layers")


def write_truncation(study: TruncationStudy, folder: Path, provenance: Row | None = None) -> None:
    """Write ``truncation.json``, ``truncation.csv``, ``spectra.csv`` and, after re-training, ``retrained.csv``.

    Args:
        study: what was found.
        folder: made if it is not there.
        provenance: where it comes from, in the place of what the study says of that.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    _write(study, folder, provenance, truncation=study.rows, spectra=study.spectra, retrained=study.retrained)


def write_degeneracy(study: DegeneracyStudy, folder: Path, provenance: Row | None = None) -> None:
    """Write ``degeneracy.json``, ``degeneracy.csv`` (without the intensities) and ``intensities.csv``.

    Args and errors are those of :func:`write_truncation`.
    """
    rows = [{name: value for name, value in asdict(row).items() if name != "intensities"} for row in study.rows]
    _write(study, folder, provenance, degeneracy=rows, intensities=study.intensities())


def write_layers(study: LayerStudy, folder: Path, provenance: Row | None = None) -> None:
    """Write ``layers.json`` and ``layers.csv``.

    Args and errors are those of :func:`write_truncation`.
    """
    _write(study, folder, provenance, layers=study.rows)


def _write(
    study: TruncationStudy | DegeneracyStudy | LayerStudy, folder: Path, provenance: Row | None, **tables: Sequence[Any]
) -> None:
    study = study if provenance is None else replace(study, provenance=provenance)
    contents = {folder / study.file: json_bytes(study.to_json())}
    contents |= {folder / f"{name}.csv": as_csv(rows) for name, rows in tables.items() if rows}
    write_together(contents)


def as_csv(rows: Sequence[Any]) -> bytes:
    """A table with a header, of dataclasses or mappings; None is an empty cell, and several ranks are joined by +."""
    known = [row if isinstance(row, Mapping) else asdict(row) for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(known[0])
    for row in known:
        writer.writerow("+".join(map(str, cell)) if isinstance(cell, list | tuple) else cell for cell in row.values())
    return text.getvalue().encode()


def _keyed_row(record: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    key = record["key"]
    if not isinstance(key, str):
        raise TypeError(f"the key of a row is a text, not {type(key).__name__}")
    return key, dict(record["row"])
