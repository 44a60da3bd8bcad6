"""One page for each folder: what it says, to read without a network or a script; and a piece of it for notebooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyadic.reporting.chart import Chart
from polyadic.reporting.folder import Folder, read_folder
from polyadic.reporting.records import layer_records
from polyadic.reporting.result_page import result_charts, result_html, result_piece
from polyadic.reporting.search_page import plan_piece, plan_strip, search_html, search_page_charts
from polyadic.reporting.study_page import study_charts, study_html, study_piece
from polyadic.reporting.svg import svg_file
from polyadic.reporting.svg_parts import xml_safe
from polyadic.schema import CostEstimate, Rows, SearchResult, StudyResult, Summary, Svg
from polyadic.storage import write_together

REPORT = "report.html"

AnyFolder = Folder[Summary | SearchResult | StudyResult]


def report(directory: Path | str, out: Path | str | None = None) -> Path:
    """Write the page of the folder ``directory`` from its files alone; say where it is.

    Args:
        directory: written by ``compress``, ``search`` or ``analyze``; docs/report.md says which files are read.
        out: the file; ``report.html`` in the folder itself where absent.

    Raises:
        StorageError: a file is missing, damaged or of another version, or the disk refused.
        PolyadicError: the folder holds several studies.
    """
    folder = read_folder(directory)
    path = Path(out) if out is not None else folder.path / REPORT
    write_together({path: xml_safe(report_html(folder))})
    return path


def report_html(folder: AnyFolder) -> str:
    """The page."""
    html, _ = _page(folder)
    return html(folder)


def charts(folder: AnyFolder) -> list[Chart]:
    """Every chart that there is something to show in, in the order of the page."""
    _, drawn = _page(folder)
    return drawn(folder)


def _page(folder: AnyFolder) -> tuple[Callable[[Any], str], Callable[[Any], list[Chart]]]:
    """How the page of such a folder is written, and how its charts are made."""
    match folder.result:
        case Summary():
            return result_html, result_charts
        case SearchResult():
            return search_html, search_page_charts
        case StudyResult():
            return study_html, lambda folder: study_charts(folder.result)


def write_figures(folder: AnyFolder, directory: Path | str) -> list[Path]:
    """Write every chart as an SVG file: all of them or none.

    Raises:
        StorageError: the disk refused.
    """
    contents = {Path(directory) / f"{chart.name}.svg": svg_file(chart) for chart in charts(folder)}
    write_together(contents)
    return list(contents)


def records(result: Any) -> Rows:
    """Tidy rows of a result: its layers, the plans to choose from after a search, the rows of a study."""
    match result:
        case Summary():
            return layer_records(result)
        case SearchResult():
            return Rows({**one.to_json(), "chosen": one.plan == result.plan} for one in result.plans_to_choose_from)
        case CostEstimate():
            return Rows(asdict(layer) for layer in result.layers)
        case _:
            return Rows(asdict(row) for row in result.rows)


def figures(result: Any) -> dict[str, Svg]:
    """The plots of a result's page by name, but for those that need the log of a search."""
    made = [plan_strip(result)] if isinstance(result, CostEstimate) else charts(Folder(Path(), result))
    return {chart.name: Svg(svg_file(chart).decode()) for chart in made if chart is not None}


def piece(result: Any) -> str:
    """What a notebook shows of a result: the figures that count, and one plot."""
    match result:
        case Summary():
            return result_piece(result)
        case SearchResult() | CostEstimate():
            return plan_piece(result)
        case _:
            return study_piece(result)
