"""Measured speed as charts, a table and a page of its own; read from ``bench.json`` alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyadic.errors import StorageError
from polyadic.reporting.chart import (
    BarChart,
    Bars,
    Chart,
    Colour,
    Line,
    Table,
    distinct,
    number_text,
    series_colour,
    table_of,
    with_content,
)
from polyadic.reporting.page import plain_text, render
from polyadic.reporting.svg import svg_file
from polyadic.reporting.svg_parts import xml_safe
from polyadic.schema import VERSION, BenchResult, BenchRow
from polyadic.storage import read_document

_Column = Callable[[BenchRow], str]


@dataclass(frozen=True)
class BenchSection:
    """What templates show of measured speed."""

    charts: list[Chart]
    table: Table
    notes: list[str]
    environment: Table


def read_bench(folder: Path | str) -> BenchResult:
    """What ``bench.json`` in ``folder`` says.

    Raises:
        StorageError: it is missing, damaged or of another version.
    """
    path = Path(folder) / BenchResult.file
    return BenchResult.from_json(read_document(path, VERSION), path)


def bench_page(result: BenchResult) -> bytes:
    """A page of its own."""
    names = " and ".join(network.name for network in result.networks)
    return xml_safe(render("bench_page.html", title=f"Measured speed of {names}", bench=bench_section(result)))


def bench_figures(result: BenchResult) -> list[tuple[str, bytes]]:
    """Name and content of a file for each chart."""
    return [(f"{chart.name}.svg", svg_file(chart)) for chart in bench_charts(result)]


def bench_section(result: BenchResult) -> BenchSection:
    """Charts, table, notes, and on what it was measured."""
    shape = {"input": " x ".join(map(str, result.input_shape))}
    known = {**shape, **result.environment, **result.settings}
    rows = tuple((key, plain_text(value)) for key, value in known.items() if value is not None)
    table = Table(BENCH_COLUMNS, bench_rows(result))
    return BenchSection(bench_charts(result), table, bench_notes(result), Table(("what", "value"), rows))


def bench_section_in(folder: Path) -> BenchSection | None:
    """The section on measured speed in the page of a result; None where nothing was measured.

    What cannot be read is said in a note, for the rest of a page is worth having without it.
    """
    if not (folder / BenchResult.file).exists():
        return None
    try:
        return bench_section(read_bench(folder))
    except StorageError as error:
        return BenchSection([], Table(BENCH_COLUMNS, ()), [str(error)], Table((), ()))


def bench_charts_in(folder: Path) -> list[Chart]:
    """The charts of what was measured in the folder of a result, as far as it can be read."""
    section = bench_section_in(folder)
    return [] if section is None else section.charts


def bench_charts(result: BenchResult) -> list[Chart]:
    """Speed-ups beside the reduction of MACs, and milliseconds; each where there is something to show."""
    return with_content((_speed_ups(result), _times(result)))


def bench_rows(result: BenchResult) -> tuple[tuple[str, ...], ...]:
    """One row of text for each time, and one with the reason for each that could not be taken."""
    return tuple(_row(row, result.reference) for row in result.rows)


def bench_notes(result: BenchResult) -> list[str]:
    """What was left out and why, and how to read the numbers."""
    said = [
        f"{row.network} was not timed on {row.engine}, {row.conditions}: {row.reason}"
        for row in result.rows
        if row.reason is not None
    ]
    said += [f"{what} was left out: {reason}" for what, reason in result.skipped]
    said += distinct(f"No memory: {row.memory_reason}" for row in result.rows if row.memory_reason)
    reductions = ", ".join(f"{network.name} {network.mac_reduction:.2f}x fewer MACs" for network in result.networks[1:])
    said.append(
        f"Passes of all networks took turns within each engine and set of conditions. Speed-ups are over "
        f"{result.reference}, in each round, and told as their median{f' ({reductions})' if reductions else ''}."
    )
    return said


def _speed_ups(result: BenchResult) -> BarChart | None:
    others = result.networks[1:]
    shown = [row for row in result.rows if row.speed_up is not None and row.network != result.reference]
    columns: dict[str, _Column] = {
        "speed-up": lambda row: number_text(row.speed_up, "{:.2f}"),
        "quartiles": lambda row: _span(row.speed_up_low, row.speed_up_high, "{:.2f}"),
        "share of the reduction of MACs": lambda row: number_text(row.realised_share, "{:.2f}"),
    }
    reductions = [
        Line(f"{network.name}: {network.mac_reduction:.2f}x fewer MACs", network.mac_reduction, "x")
        for network in others
    ]
    return _bars(
        shown,
        lambda row: row.speed_up,
        {network.name: series_colour(at) for at, network in enumerate(others)},
        columns,
        "speed-up",
        "Speed-up on each engine",
        f"How many times faster than {result.reference}, in the same rounds. The dashed line is by how many times the "
        "multiply-accumulates are fewer; bars that end before it realise a part of that.",
        "times faster",
        lines=(*reductions, Line("as fast", 1.0, "x")),
    )


def _times(result: BenchResult) -> BarChart | None:
    shown = [row for row in result.rows if row.median_ms is not None]
    columns: dict[str, _Column] = {
        "ms of a pass": lambda row: number_text(row.median_ms, "{:.3f}"),
        "quartiles": lambda row: _span(row.low_ms, row.high_ms, "{:.3f}"),
        "ms for one sample": lambda row: number_text(_per_sample(row), "{:.3f}"),
    }
    colours: dict[str, Colour] = {network.name: series_colour(at - 1) for at, network in enumerate(result.networks)}
    return _bars(
        shown,
        _per_sample,
        {**colours, result.reference: "dense"},
        columns,
        "milliseconds",
        "Milliseconds for one sample",
        "Median time of a pass divided by its batch.",
        "milliseconds for one sample",
        log=True,
    )


def _bars(
    rows: Sequence[BenchRow],
    value: Callable[[BenchRow], float | None],
    colours: Mapping[str, Colour],
    columns: Mapping[str, _Column],
    *words: str,
    log: bool = False,
    lines: tuple[Line, ...] = (),
) -> BarChart | None:
    """A bar for each network on each engine; ``words`` are name, title, caption and label. None without rows."""
    if not rows:
        return None
    name, title, caption, label = words
    places, known = distinct(map(_place, rows)), {(row.network, _place(row)): value(row) for row in rows}
    table = table_of(rows, {"network": lambda row: row.network, "engine and conditions": _place, **columns})
    bars = tuple(Bars(of, colour, tuple(known.get((of, place)) for place in places)) for of, colour in colours.items())
    return BarChart(name, title, caption, table, label, tuple(places), bars, log, lines)


def _per_sample(row: BenchRow) -> float | None:
    return row.median_ms / row.conditions.batch if row.median_ms else None


def _where(row: BenchRow) -> str:
    conditions = row.conditions
    return conditions.precision if conditions.device == "cpu" else f"{conditions.precision}, {conditions.device}"


_CONDITIONS: dict[str, _Column] = {
    "network": lambda row: row.network,
    "engine": lambda row: row.engine,
    "layout": lambda row: row.layout,
    "batch": lambda row: str(row.conditions.batch),
    "format": _where,
}
_TIMES: dict[str, _Column] = {
    "ms": lambda row: number_text(row.median_ms, "{:.3f}"),
    "quartiles": lambda row: _span(row.low_ms, row.high_ms, "{:.3f}"),
    "speed-up": lambda row: number_text(row.speed_up, "{:.2f}x"),
    "quartiles of it": lambda row: _span(row.speed_up_low, row.speed_up_high, "{:.2f}"),
    "share of MACs": lambda row: number_text(row.realised_share, "{:.2f}"),
    "ready, s": lambda row: number_text(row.ready_s, "{:.2f}"),
    "memory, MB": lambda row: number_text(row.loaded_bytes, "{:.1f}", 1e-6),
    "peak, MB": lambda row: number_text(row.peak_bytes, "{:.1f}", 1e-6),
    "file, MB": lambda row: number_text(row.file_bytes, "{:.1f}", 1e-6),
    "difference": lambda row: number_text(row.difference, "{:.0e}"),
}
_COMPARED = ("speed-up", "quartiles of it", "share of MACs")
"""Columns that say nothing of the network that all others are compared with."""

BENCH_COLUMNS = (*_CONDITIONS, *_TIMES)


def _row(row: BenchRow, reference: str) -> tuple[str, ...]:
    said = tuple(cell(row) for cell in _CONDITIONS.values())
    if row.reason is not None:
        return (*said, "not timed", *[""] * (len(_TIMES) - 1))
    left_out = _COMPARED if row.network == reference else ()
    return (*said, *("" if column in left_out else cell(row) for column, cell in _TIMES.items()))


def _place(row: BenchRow) -> str:
    conditions = row.conditions
    precision = "" if conditions.precision == "float32" else f" {conditions.precision}"
    device = "" if conditions.device == "cpu" else f" {conditions.device}"
    return f"{row.engine}{device}{precision}, batch {conditions.batch}"


def _span(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"
