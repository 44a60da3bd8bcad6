"""The page of a result: everything that its folder says, to read without a network or a script."""

from __future__ import annotations

from collections.abc import Callable

from polyadic.reporting.bench_page import bench_charts_in, bench_section_in
from polyadic.reporting.chart import Chart, Table, number_text, table_of, with_content
from polyadic.reporting.folder import Folder
from polyadic.reporting.headline import result_headline
from polyadic.reporting.layer_charts import layer_charts, strip, what_happened
from polyadic.reporting.loss_words import held_out_words
from polyadic.reporting.page import provenance_rows, render
from polyadic.reporting.run_charts import drop_chart, finetuning_charts, search_charts
from polyadic.schema import LayerOutcome, Summary


def result_html(folder: Folder[Summary]) -> str:
    """The page."""
    summary = folder.result
    return render(
        "report.html",
        title=f"{folder.name}, compressed",
        summary=summary,
        headline=result_headline(summary),
        held_out=held_out_words(summary.provenance),
        charts={chart.name: chart for chart in result_charts(folder)},
        layers=_layer_table(summary),
        provenance=provenance_rows(summary.provenance),
        notes=_notes(folder),
        bench=bench_section_in(folder.path),
    )


def result_piece(summary: Summary) -> str:
    """What a notebook shows of a result: the headline, the strip of layers, the warnings."""
    shown = strip(summary.layers, summary.dense.macs)
    return render("summary.html", headline=result_headline(summary), strip=shown, warnings=summary.warnings)


def result_charts(folder: Folder[Summary]) -> list[Chart]:
    """Every chart that there is something to show in, in the order of the page."""
    summary = folder.result
    return [
        *with_content([drop_chart([("compressed", summary)])]),
        *layer_charts(summary),
        *search_charts(folder),
        *finetuning_charts(summary),
        *bench_charts_in(folder.path),
    ]


def _layer_table(summary: Summary) -> Table:
    """What happened to each layer, and why."""
    fates = {"dense": "left dense", "unsupported": "not supported"}

    def why(layer: LayerOutcome) -> str:
        stopped = "stopped: " if layer.status == "factorised" and layer.reason else ""
        return stopped + (layer.reason or "")

    columns: dict[str, Callable[[LayerOutcome], str]] = {
        "layer": lambda layer: layer.name,
        "what happened": lambda layer: fates.get(layer.status) or what_happened(layer),
        "MACs before": lambda layer: f"{layer.macs_before:,}",
        "after": lambda layer: f"{layer.macs_after:,}",
        "error": lambda layer: number_text(layer.relative_error, "{:.3f}"),
        "in its output": lambda layer: number_text(layer.weighted_error, "{:.3f}"),
        "sensitivity": lambda layer: number_text(layer.sensitivity, "{:.0f}"),
        "why": why,
    }
    return table_of(summary.layers, columns)


def _notes(folder: Folder[Summary]) -> list[str]:
    """What the page itself has to say of its sources."""
    said = []
    if not folder.trials:
        said.append("The folder holds no log of a search, so its history is not shown.")
    if folder.damaged:
        said.append(f"Lines of the log of the search that could not be read and are left out: {folder.damaged}.")
    if any(record.macs is None and record.cost is None for record in folder.trials):
        said.append("The log does not tell the cost of every plan; those without are not on the front.")
    return said
