"""A study as files: tidy tables in CSV, and everything in one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyadic.storage import write_together
from polyadic.studies.degeneracy import METHODS, DegeneracyStudy
from polyadic.studies.layer_study import LayerStudy
from polyadic.studies.row_file import Row, as_csv, as_json
from polyadic.studies.truncation import TruncationStudy

VERSION = 1
"""Of the JSON documents."""


def study_document(
    study: TruncationStudy | DegeneracyStudy | LayerStudy, provenance: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of the study's JSON file, of which pages are made; ``provenance`` says where it comes from."""
    document = {"version": VERSION, **asdict(study), "provenance": dict(provenance or {})}
    if isinstance(study, DegeneracyStudy):
        document["methods"] = METHODS
    return document


def write_truncation(study: TruncationStudy, folder: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write ``truncation.json``, ``truncation.csv``, ``spectra.csv`` and, after re-training, ``retrained.csv``.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    tables = {"truncation": study.rows, "spectra": study.spectra, "retrained": study.retrained}
    contents = {folder / "truncation.json": as_json(study_document(study, provenance))}
    contents |= {folder / f"{name}.csv": as_csv(rows, _columns(rows)) for name, rows in tables.items() if rows}
    write_together(contents)


def write_degeneracy(study: DegeneracyStudy, folder: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write ``degeneracy.json``, ``degeneracy.csv`` (without the intensities) and ``intensities.csv``.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    columns = [column for column in _columns(study.rows) if column != "intensities"]
    terms = study.intensities()
    write_together(
        {
            folder / "degeneracy.json": as_json(study_document(study, provenance)),
            folder / "degeneracy.csv": as_csv(study.rows, columns),
            folder / "intensities.csv": as_csv(terms, _columns(terms)),
        }
    )


def write_layers(study: LayerStudy, folder: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write ``layers.json`` and ``layers.csv``.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    table = as_csv(study.rows, _columns(study.rows))
    write_together({folder / "layers.json": as_json(study_document(study, provenance)), folder / "layers.csv": table})


def _columns(rows: Sequence[Row]) -> list[str]:
    """All columns, in the order in which they come up."""
    return list(dict.fromkeys(column for row in rows for column in row))
