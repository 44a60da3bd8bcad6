"""Charts of a study of degeneracy: how CP decompositions of each layer behave as their rank grows."""

from __future__ import annotations

from polyadic.reporting.chart import Chart, Mark, PanelChart, Table, distinct, number_text, panels_of, with_content
from polyadic.schema import DegeneracyStudy

_FIGURES = (
    (
        "error",
        "relative_error",
        "Error against the rank",
        "relative error",
        "Relative error ||K - K^|| / ||K|| of the decomposition. Methods that reach the same error may differ much in "
        "what follows.",
    ),
    (
        "intensity",
        "intensity_ratio",
        "Largest over smallest intensity",
        "ratio of intensities",
        "The intensity of a rank-one term is its norm. A large ratio says that terms of very different length stand "
        "beside each other.",
    ),
    (
        "squares",
        "sum_squared_intensity",
        "Sum of squared intensities",
        "sum of squares",
        "Of K / ||K||, whose own squared norm is 1. Terms that are long together, and whose sum is not, cancel one "
        "another: that is degeneracy.",
    ),
    (
        "sensitivity",
        "sensitivity",
        "Sensitivity",
        "sensitivity",
        "How much the kernel moves when its factors are disturbed, for a kernel of unit norm. A large one makes "
        "fine-tuning diverge.",
    ),
)


def degeneracy_charts(study: DegeneracyStudy) -> list[Chart]:
    """Error, intensities, their squares and sensitivity, a small plot for each layer."""
    return with_content(_chart(study, *figure) for figure in _FIGURES)


def _chart(study: DegeneracyStudy, name: str, column: str, title: str, label: str, caption: str) -> PanelChart:
    methods = {method: study.methods.get(method, method) for method in distinct(row.method for row in study.rows)}
    log = column != "relative_error"
    values = [getattr(row, column) for row in study.rows]
    marks = [
        Mark(method, row.rank, value, f"{row.layer}, {method}, rank {row.rank}: {_text(value)}", row.layer)
        for row, value in zip(study.rows, values, strict=True)
        for method in (methods[row.method],)
    ]
    panels = panels_of(marks, list(methods.values()), positive=log)
    infinite = values.count(None)
    caption += f" Infinite, and so not drawn: {infinite} of {len(study.rows)}." if infinite else ""
    table = _table(study, methods, column)
    return PanelChart(name, title, caption, table, "rank (logarithmic)", label, panels, y_log=log, own_x=True)


def _table(study: DegeneracyStudy, methods: dict[str, str], column: str) -> Table:
    """A row for each layer and rank, ranks rising, and a column for each method."""
    known = {(row.layer, row.rank, row.method): _text(getattr(row, column)) for row in study.rows}
    order = {layer: at for at, layer in enumerate(distinct(row.layer for row in study.rows))}
    places = sorted({(row.layer, row.rank) for row in study.rows}, key=lambda place: (order[place[0]], place[1]))
    return Table(
        ("layer", "rank", *methods.values()),
        tuple((layer, str(rank), *(known.get((layer, rank, name), "") for name in methods)) for layer, rank in places),
    )


def _text(value: float | None) -> str:
    return number_text(value, "{:.3g}", absent="infinite")
