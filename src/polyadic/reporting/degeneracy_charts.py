"""Charts of a study of degeneracy: how CP decompositions of each layer behave as their rank grows."""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.reporting.chart import Chart, PanelChart, Table
from polyadic.reporting.panels import distinct, number, panel, points, present
from polyadic.reporting.study_folder import Degeneracy, DegeneracyRow

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


def degeneracy_charts(study: Degeneracy) -> list[Chart]:
    """Error, intensities, their squares and sensitivity, a small plot for each layer."""
    made = (_chart(study, *figure) for figure in _FIGURES)
    return [chart for chart in made if chart is not None]


def _chart(study: Degeneracy, name: str, column: str, title: str, label: str, caption: str) -> PanelChart | None:
    methods = distinct(row.method for row in study.rows)
    layers = distinct(row.layer for row in study.rows)
    log = column != "relative_error"

    def value(row: DegeneracyRow) -> float | None:
        found: float | None = getattr(row, column)
        return found

    def said(row: DegeneracyRow) -> str:
        return f"{row.layer}, {study.methods.get(row.method, row.method)}, rank {row.rank}: {number(value(row))}"

    panels = present(
        panel(
            layer,
            (
                points(
                    study.methods.get(method, method),
                    at,
                    (
                        (row.rank, value(row), said(row))
                        for row in study.rows
                        if (row.layer, row.method) == (layer, method)
                    ),
                    positive=log,
                )
                for at, method in enumerate(methods)
            ),
        )
        for layer in layers
    )
    if not panels:
        return None
    infinite = sum(value(row) is None for row in study.rows)
    caption += f" Infinite, and so not drawn: {infinite} of {len(study.rows)}." if infinite else ""
    table = _table(study, methods, column)
    return PanelChart(name, title, caption, table, "rank (logarithmic)", label, panels, y_log=log, own_x=True)


def _table(study: Degeneracy, methods: Sequence[str], column: str) -> Table:
    """A row for each layer and rank, a column for each method."""
    known = {(row.layer, row.rank, row.method): number(getattr(row, column)) for row in study.rows}
    places = _places(study)
    rows = tuple(
        (layer, str(rank), *(known.get((layer, rank, name), "") for name in methods)) for layer, rank in places
    )
    return Table(("layer", "rank", *(study.methods.get(name, name) for name in methods)), rows)


def _places(study: Degeneracy) -> list[tuple[str, int]]:
    """Every layer with each of its ranks, rising."""
    order = {layer: at for at, layer in enumerate(distinct(row.layer for row in study.rows))}
    return sorted({(row.layer, row.rank) for row in study.rows}, key=lambda place: (order[place[0]], place[1]))
