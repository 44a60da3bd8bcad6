"""Charts of a study of layers: what a rank costs in error, and what that error costs in accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polyadic.reporting.chart import SERIES, Chart, Line, PanelChart, PointChart, Points, Table
from polyadic.reporting.panels import distinct, panel, percent, points, present, scaled
from polyadic.reporting.study_folder import LayerRow, Layers

_Value = Callable[[LayerRow], float | None]


@dataclass(frozen=True)
class _Axis:
    """What is drawn across or up: its label, its value, and the value as text."""

    label: str
    value: _Value
    text: Callable[[LayerRow], str]


_RANK = _Axis(
    "rank, the largest where there are several (logarithmic)", lambda row: max(row.rank), lambda row: row.ranks
)
_MACS = _Axis("MACs, % of the layer's", lambda row: 100 * row.mac_ratio, lambda row: f"{100 * row.mac_ratio:.1f}")
_ERROR = _Axis("relative error", lambda row: row.relative_error, lambda row: f"{row.relative_error:.4f}")
_ACCURACY = _Axis("accuracy, %", lambda row: scaled(row.accuracy), lambda row: percent(row.accuracy))
_TUNED = _Axis("accuracy, %", lambda row: scaled(row.accuracy_tuned), lambda row: percent(row.accuracy_tuned))


def layer_study_charts(study: Layers) -> list[Chart]:
    """Error and accuracy against the rank, over the cost, and over the sensitivity."""
    alone = "One layer is replaced, all others stay as they are."
    made: tuple[Chart | None, ...] = (
        _chart(study, "error-rank", "Error against the rank", f"Relative error of the kernel. {alone}", _RANK, _ERROR),
        _chart(study, "accuracy-rank", "Accuracy against the rank", f"Before fine-tuning. {alone}", _RANK, _ACCURACY),
        _chart(
            study, "error-macs", "Error over the cost", "Formats at equal cost stand above one another.", _MACS, _ERROR
        ),
        _chart(study, "accuracy-macs", "Accuracy over the cost", f"Before fine-tuning. {alone}", _MACS, _ACCURACY),
        _chart(
            study,
            "tuned-macs",
            "Accuracy over the cost, after fine-tuning",
            "The chain alone was fine-tuned for a moment, taught by the dense network; the best state was chosen on "
            "the same images.",
            _MACS,
            _TUNED,
        ),
        _over_sensitivity(study),
    )
    return [chart for chart in made if chart is not None]


def _chart(study: Layers, name: str, title: str, caption: str, across: _Axis, up: _Axis) -> PanelChart | None:
    formats = distinct(row.format for row in study.rows)
    panels = present(
        panel(
            layer,
            (
                points(
                    fmt,
                    at,
                    (
                        (across.value(row), up.value(row), _said(row))
                        for row in study.rows
                        if (row.layer, row.format) == (layer, fmt)
                    ),
                )
                for at, fmt in enumerate(formats)
            ),
        )
        for layer in distinct(row.layer for row in study.rows)
    )
    if not panels:
        return None
    columns = ("layer", "format", "rank", *(("MACs, %",) if across is _MACS else ()), up.label)
    rows = tuple(
        (row.layer, row.format, row.ranks, *((across.text(row),) if across is _MACS else ()), up.text(row))
        for row in study.rows
    )
    lines = (Line("dense", 100 * study.dense_accuracy),) if up is not _ERROR else ()
    table = Table(columns, rows)
    return PanelChart(name, title, caption, table, across.label, up.label, panels, lines, own_x=across is _RANK)


def _over_sensitivity(study: Layers) -> PointChart | None:
    known = [row for row in study.rows if row.sensitivity is not None and row.sensitivity > 0]
    if not known:
        return None
    series = tuple(
        Points(
            fmt,
            SERIES[at % len(SERIES)],
            tuple(float(row.sensitivity or 0.0) for row in known if row.format == fmt),
            tuple(100 * row.accuracy for row in known if row.format == fmt),
            tuple(_said(row) for row in known if row.format == fmt),
            symbol=at,
        )
        for at, fmt in enumerate(distinct(row.format for row in known))
    )
    return PointChart(
        "accuracy-sensitivity",
        "Accuracy over the sensitivity",
        "Every layer and rank in a CP format, before fine-tuning. Sensitivity is that of the factors of K / ||K||; "
        "other formats have none.",
        Table(
            ("layer", "format", "rank", "sensitivity", "accuracy, %"),
            tuple((row.layer, row.format, row.ranks, f"{row.sensitivity:.3g}", percent(row.accuracy)) for row in known),
        ),
        "sensitivity (logarithmic)",
        "accuracy, %",
        series,
        (Line("dense", 100 * study.dense_accuracy),),
        x_log=True,
    )


def _said(row: LayerRow) -> str:
    tuned = "" if row.accuracy_tuned is None else f", {percent(row.accuracy_tuned)} % tuned"
    return (
        f"{row.layer}, {row.format} {row.ranks}: error {row.relative_error:.3f}, {100 * row.mac_ratio:.0f} % of the "
        f"MACs, {percent(row.accuracy)} %{tuned}"
    )
