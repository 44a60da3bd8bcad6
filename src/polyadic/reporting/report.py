"""One page for each folder: what it says, to read without a network or a script."""

from __future__ import annotations

from pathlib import Path

from polyadic.errors import StorageError
from polyadic.reporting.chart import Chart
from polyadic.reporting.result_folder import PLAN, RESULT, ResultFolder, read_result
from polyadic.reporting.result_page import result_charts, result_html
from polyadic.reporting.search_folder import SEARCH, SearchFolder, read_search
from polyadic.reporting.search_page import search_html, search_page_charts
from polyadic.reporting.study_folder import STUDIES, StudyFolder, read_study
from polyadic.reporting.study_page import study_charts, study_html
from polyadic.reporting.svg import svg_file
from polyadic.reporting.writing import xml_safe
from polyadic.storage import write_together

REPORT = "report.html"

Folder = ResultFolder | SearchFolder | StudyFolder


def read_folder(directory: Path | str) -> Folder:
    """Read what ``compress``, ``search`` or ``analyze`` wrote; a result goes before the search that led to it.

    Raises:
        StorageError: a file is missing, damaged or of another version.
        PolyadicError: the folder holds several studies.
    """
    directory = Path(directory)
    if (directory / RESULT).exists():
        return read_result(directory)
    if (directory / SEARCH).exists():
        return read_search(directory)
    if any((directory / name).exists() for name in STUDIES):
        return read_study(directory)
    raise StorageError(_what_is_missing(directory))


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


def report_html(folder: Folder) -> str:
    """The page."""
    match folder:
        case ResultFolder():
            return result_html(folder)
        case SearchFolder():
            return search_html(folder)
        case StudyFolder():
            return study_html(folder)


def charts(folder: Folder) -> list[Chart]:
    """Every chart that there is something to show in, in the order of the page."""
    match folder:
        case ResultFolder():
            return result_charts(folder)
        case SearchFolder():
            return search_page_charts(folder)
        case StudyFolder():
            return study_charts(folder.study)


def write_figures(folder: Folder, directory: Path | str) -> list[Path]:
    """Write every chart as an SVG file: all of them or none.

    Raises:
        StorageError: the disk refused.
    """
    contents = {Path(directory) / f"{chart.name}.svg": svg_file(chart) for chart in charts(folder)}
    write_together(contents)
    return list(contents)


def _what_is_missing(directory: Path) -> str:
    if not directory.is_dir():
        return f"a report is made of the folder of a result, a search or a study; {directory} is none"
    if (directory / "rows.jsonl").exists():
        return f"{directory} holds rows of a study that did not end: finish it with polyadic analyze ... --resume"
    if (directory / PLAN).exists():
        return (
            f"{directory} holds a plan that was not carried out, and neither {RESULT} nor {SEARCH}: carry it out with "
            f"polyadic compress --plan {directory}"
        )
    return (
        f"a report is made of {RESULT}, {SEARCH}, {', '.join(STUDIES)}, and {directory} has none of them: finish the "
        "run with --resume"
    )
