"""Measured speed as charts, a table and a page of its own; read from ``bench.json`` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyadic.benchmarking import BENCH, BenchResult, BenchRow
from polyadic.errors import StorageError
from polyadic.reporting.chart import SERIES, BarChart, Bars, Chart, Line, Table
from polyadic.reporting.documents import checked, read_document
from polyadic.reporting.page import rendered
from polyadic.reporting.svg import svg_file
from polyadic.reporting.writing import xml_safe

BENCH_COLUMNS = (
    "network", "engine", "layout", "batch", "format", "ms", "quartiles", "speed-up", "quartiles of it", "share of MACs",
    "ready, s", "memory, MB", "peak, MB", "file, MB", "difference",
)  # fmt: skip
_BENCH: TypeAdapter[BenchResult] = TypeAdapter(BenchResult)


def read_bench(folder: Path | str) -> BenchResult:
    """What ``bench.json`` in ``folder`` says.

    Raises:
        StorageError: it is missing, damaged or of another version.
    """
    path = Path(folder) / BENCH
    result = checked(_BENCH, read_document(path), path, "measure again")
    if not result.networks:
        raise StorageError(f"{path} is damaged at networks (there are none): copy it again, or measure again")
    return result


def bench_page(result: BenchResult) -> bytes:
    """A page of its own."""
    names = " and ".join(network.name for network in result.networks)
    return xml_safe(rendered("bench_page.html", title=f"Measured speed of {names}", bench=bench_section(result)))


def bench_figures(result: BenchResult) -> list[tuple[str, bytes]]:
    """Name and content of a file for each chart."""
    return [(f"{chart.name}.svg", svg_file(chart)) for chart in bench_charts(result)]


def bench_section(result: BenchResult) -> dict[str, Any]:
    """What the templates show."""
    return {
        "charts": bench_charts(result),
        "table": Table(BENCH_COLUMNS, bench_rows(result)),
        "notes": bench_notes(result),
        "environment": Table(("what", "value"), tuple(_environment(result))),
    }


def section_of(folder: Path) -> dict[str, Any] | None:
    """The section on measured speed in the report of a result; None where nothing was measured.

    What cannot be read is said in a note, for the rest of a report is worth having without it.
    """
    if not (folder / BENCH).exists():
        return None
    try:
        return bench_section(read_bench(folder))
    except StorageError as error:
        return {"charts": [], "table": Table(BENCH_COLUMNS, ()), "notes": [str(error)], "environment": Table((), ())}


def charts_of(folder: Path) -> list[Chart]:
    """The charts of what was measured in the folder of a result, as far as it can be read."""
    try:
        return bench_charts(read_bench(folder)) if (folder / BENCH).exists() else []
    except StorageError:
        return []


def bench_charts(result: BenchResult) -> list[Chart]:
    """Speed-ups beside the reduction of MACs, and milliseconds; each where there is something to show."""
    made = (_speed_ups(result), _times(result))
    return [chart for chart in made if chart is not None]


def bench_rows(result: BenchResult) -> tuple[tuple[str, ...], ...]:
    """One row of text for each time, and one with the reason for each that could not be taken."""
    return tuple(_row(row, result.reference) for row in result.rows)


def bench_notes(result: BenchResult) -> list[str]:
    """What was left out and why, and how to read the numbers."""
    said = [f"{row.network} was not timed on {row.engine}, {row.conditions}: {row.reason}" for row in result.rows
            if row.reason is not None]  # fmt: skip
    said += [f"{what} was left out: {reason}" for what, reason in result.skipped]
    said += list(dict.fromkeys(f"No memory: {row.memory_reason}" for row in result.rows if row.memory_reason))
    reductions = ", ".join(f"{network.name} {network.mac_reduction:.2f}x fewer MACs" for network in result.networks[1:])
    said.append(
        f"Passes of all networks took turns within each engine and set of conditions. Speed-ups are over "
        f"{result.reference}, in each round, and told as their median{f' ({reductions})' if reductions else ''}."
    )
    return said


def _speed_ups(result: BenchResult) -> BarChart | None:
    others = result.networks[1:]
    shown = [row for row in result.rows if row.speed_up is not None and row.network != result.reference]
    if not shown:
        return None
    places = list(dict.fromkeys(map(_place, shown)))
    known = {(row.network, _place(row)): row.speed_up for row in shown}
    return BarChart(
        "speed-up",
        "Speed-up on each engine",
        f"How many times faster than {result.reference}, in the same rounds. The dashed line is by how many times the "
        "multiply-accumulates are fewer; bars that end before it realise a part of that.",
        Table(
            ("network", "engine and conditions", "speed-up", "quartiles", "share of the reduction of MACs"),
            tuple(
                (
                    row.network,
                    _place(row),
                    f"{row.speed_up:.2f}",
                    _span(row.speed_up_low, row.speed_up_high, "{:.2f}"),
                    _said(row.realised_share, "{:.2f}"),
                )
                for row in shown
            ),
        ),
        "times faster",
        tuple(places),
        tuple(
            Bars(network.name, SERIES[at % len(SERIES)], tuple(known.get((network.name, place)) for place in places))
            for at, network in enumerate(others)
        ),
        lines=(
            *(Line(f"{network.name}: {network.mac_reduction:.2f}x fewer MACs", network.mac_reduction, "x")
              for network in others),
            Line("as fast", 1.0, "x"),
        ),
    )  # fmt: skip


def _times(result: BenchResult) -> BarChart | None:
    shown = [row for row in result.rows if row.median_ms is not None]
    if not shown:
        return None
    places = list(dict.fromkeys(map(_place, shown)))
    known = {(row.network, _place(row)): row.median_ms / row.conditions.batch for row in shown if row.median_ms}
    return BarChart(
        "milliseconds",
        "Milliseconds for one sample",
        "Median time of a pass divided by its batch.",
        Table(
            ("network", "engine and conditions", "ms of a pass", "quartiles", "ms for one sample"),
            tuple(
                (
                    row.network,
                    _place(row),
                    _said(row.median_ms, "{:.3f}"),
                    _span(row.low_ms, row.high_ms, "{:.3f}"),
                    _said(known.get((row.network, _place(row))), "{:.3f}"),
                )
                for row in shown
            ),
        ),
        "milliseconds for one sample",
        tuple(places),
        tuple(
            Bars(
                network.name,
                "dense" if at == 0 else SERIES[(at - 1) % len(SERIES)],
                tuple(known.get((network.name, place)) for place in places),
            )
            for at, network in enumerate(result.networks)
        ),
        log=True,
    )


def _row(row: BenchRow, reference: str) -> tuple[str, ...]:
    conditions = row.conditions
    where = conditions.precision if conditions.device == "cpu" else f"{conditions.precision}, {conditions.device}"
    said = (row.network, row.engine, row.layout, str(conditions.batch), where)
    if row.reason is not None:
        return (*said, "not timed", *[""] * (len(BENCH_COLUMNS) - len(said) - 1))
    other = row.network != reference
    return (
        *said,
        _said(row.median_ms, "{:.3f}"),
        _span(row.low_ms, row.high_ms, "{:.3f}"),
        _said(row.speed_up, "{:.2f}x") if other else "",
        _span(row.speed_up_low, row.speed_up_high, "{:.2f}") if other else "",
        _said(row.realised_share, "{:.2f}") if other else "",
        _said(row.ready_s, "{:.2f}"),
        _megabytes(row.loaded_bytes),
        _megabytes(row.peak_bytes),
        _megabytes(row.file_bytes),
        _said(row.difference, "{:.0e}"),
    )


def _environment(result: BenchResult) -> list[tuple[str, str]]:
    shape = {"input": " x ".join(map(str, result.input_shape))}
    known = {**shape, **result.environment, **result.settings}
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in known.items()
        if value is not None
    ]


def _place(row: BenchRow) -> str:
    conditions = row.conditions
    precision = "" if conditions.precision == "float32" else f" {conditions.precision}"
    device = "" if conditions.device == "cpu" else f" {conditions.device}"
    return f"{row.engine}{device}{precision}, batch {conditions.batch}"


def _said(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _span(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"


def _megabytes(count: int | None) -> str:
    return _said(None if count is None else count / 1e6, "{:.1f}")
