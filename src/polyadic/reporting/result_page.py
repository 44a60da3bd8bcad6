"""The page of a result: everything that its folder says, to read without a network or a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyadic.reporting.bench_charts import charts_of, section_of
from polyadic.reporting.chart import Chart, Table
from polyadic.reporting.layer_charts import layer_charts, strip, what_happened
from polyadic.reporting.page import Html, provenance_rows, rendered
from polyadic.reporting.result_folder import ResultFolder
from polyadic.reporting.run_charts import drop_chart, finetuning_charts, search_charts
from polyadic.reporting.svg import drawings
from polyadic.reporting.tables import HEADLINE_COLUMNS, fewer, headline_rows
from polyadic.reporting.verdict import verdicts
from polyadic.schema import Summary, Svg

_LAYER_COLUMNS = ("layer", "what happened", "MACs before", "after", "error", "in its output", "sensitivity", "why")


def result_html(folder: ResultFolder) -> str:
    """The page."""
    summary = folder.summary
    return rendered(
        "report.html",
        title=f"{folder.model or 'A network'}, compressed",
        folder=folder,
        headline=headline(summary),
        charts={chart.name: chart for chart in result_charts(folder)},
        layers=layer_table(summary),
        provenance=provenance_rows(summary.provenance),
        notes=notes(folder),
        bench=section_of(folder.path),
    )


def summary_html(summary: Summary) -> Html:
    """What a notebook shows of a result: the headline, the strip of layers, the warnings."""
    return Html(
        rendered(
            "summary.html",
            headline=headline(summary),
            strip=strip(summary.layers, summary.dense.macs),
            warnings=summary.warnings,
        )
    )


def summary_figures(summary: Summary) -> dict[str, Svg]:
    """The charts of a result as drawings, by name; those of the search are in the folder, which has its log."""
    return drawings(result_charts(ResultFolder(Path(), summary)))


def result_charts(folder: ResultFolder) -> list[Chart]:
    """Every chart that there is something to show in, in the order of the page."""
    summary = folder.summary
    drop = drop_chart([("compressed", summary)])
    return [
        *([drop] if drop is not None else []),
        *layer_charts(summary),
        *search_charts(folder),
        *finetuning_charts(summary),
        *charts_of(folder.path),
    ]


def headline(summary: Summary) -> dict[str, Any]:
    """The first screen: cards, verdicts and the table that says the same."""
    dense, small = summary.dense, summary.compressed
    interval = ""
    if summary.drop_interval is not None:
        interval = f", 95 %: {summary.drop_interval[0]:.2f} to {summary.drop_interval[1]:.2f}"
    cards = [
        (
            summary.score_name,
            f"{100 * summary.compressed_score:.2f} %",
            f"was {100 * summary.dense_score:.2f} %; drop {summary.drop:.2f} points{interval}",
        ),
        ("MACs", fewer(dense.macs, small.macs), f"{dense.macs:,} before, {small.macs:,} after"),
        ("parameters", fewer(dense.params, small.params), f"{dense.params:,} before, {small.params:,} after"),
        ("bytes in memory", fewer(dense.bytes, small.bytes), f"{dense.bytes:,} before, {small.bytes:,} after"),
    ]
    return {
        "cards": cards,
        "verdicts": verdicts(summary),
        "table": Table(HEADLINE_COLUMNS, tuple(headline_rows(summary))),
    }


def layer_table(summary: Summary) -> Table:
    """What happened to each layer, and why."""
    rows = []
    for layer in summary.layers:
        factorised = layer.status == "factorised"
        rows.append(
            (
                layer.name,
                what_happened(layer) if factorised else {"dense": "left dense"}.get(layer.status, "not supported"),
                f"{layer.macs_before:,}",
                f"{layer.macs_after:,}",
                "" if layer.relative_error is None else f"{layer.relative_error:.3f}",
                "" if layer.weighted_error is None else f"{layer.weighted_error:.3f}",
                "" if layer.sensitivity is None else f"{layer.sensitivity:.0f}",
                f"stopped: {layer.reason}" if factorised and layer.reason else layer.reason or "",
            )
        )
    return Table(_LAYER_COLUMNS, tuple(rows))


def notes(folder: ResultFolder) -> list[str]:
    """What the report itself has to say of its sources."""
    said = []
    if not folder.trials:
        said.append("The folder holds no log of a search, so its history is not shown.")
    if folder.damaged:
        said.append(f"Lines of the log of the search that could not be read and are left out: {folder.damaged}.")
    if any(trial.macs is None and trial.cost is None for trial in folder.trials):
        said.append("The log does not tell the cost of every plan; those without are not on the front.")
    return said
