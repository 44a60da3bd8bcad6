"""Charts of a study of layers: what a rank costs in error, and what that error costs in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyadic.reporting.chart import (
    Chart,
    Line,
    Mark,
    PanelChart,
    PointChart,
    distinct,
    in_percent,
    panels_of,
    percent,
    series_of,
    table_of,
    with_content,
)
from polyadic.schema import LayerRow, LayerStudy


@dataclass(frozen=True)
class _Axis:
    """What is drawn across or up: its label, its value, and the value as text."""

    label: str
    value: Callable[[LayerRow], float | None]
    text: Callable[[LayerRow], str]


_RANK = _Axis(
    "rank, the largest where there are several (logarithmic)", lambda row: max(row.rank), lambda row: _rank(row)
)
_MACS = _Axis("MACs, % of the layer's", lambda row: 100 * row.mac_ratio, lambda row: f"{100 * row.mac_ratio:.1f}")
_ERROR = _Axis("relative error", lambda row: row.relative_error, lambda row: f"{row.relative_error:.4f}")
_ACCURACY = _Axis("accuracy, %", lambda row: in_percent(row.accuracy), lambda row: percent(row.accuracy))
_TUNED = _Axis("accuracy, %", lambda row: in_percent(row.accuracy_tuned), lambda row: percent(row.accuracy_tuned))
_SENSITIVITY = _Axis("sensitivity (logarithmic)", lambda row: row.sensitivity, lambda row: f"{row.sensitivity:.3g}")

_COLUMNS: dict[str, Callable[[LayerRow], str]] = {
    "layer": lambda row: row.layer,
    "format": lambda row: row.format,
    "rank": lambda row: _rank(row),
}

_ALONE = "One layer is replaced, all others stay as they are."
_FIGURES = (
    ("error-rank", "Error against the rank", f"Relative error of the kernel. {_ALONE}", _RANK, _ERROR),
    ("accuracy-rank", "Accuracy against the rank", f"Before fine-tuning. {_ALONE}", _RANK, _ACCURACY),
    ("error-macs", "Error over the cost", "Formats at equal cost stand above one another.", _MACS, _ERROR),
    ("accuracy-macs", "Accuracy over the cost", f"Before fine-tuning. {_ALONE}", _MACS, _ACCURACY),
    (
        "tuned-macs",
        "Accuracy over the cost, after fine-tuning",
        "The chain alone was fine-tuned for a moment, taught by the dense network; the best state was chosen on the "
        "same images.",
        _MACS,
        _TUNED,
    ),
)  # fmt: skip


def layer_study_charts(study: LayerStudy) -> list[Chart]:
    """Error and accuracy against the rank, over the cost, and over the sensitivity."""
    return with_content((*(_chart(study, *figure) for figure in _FIGURES), _over_sensitivity(study)))


def _chart(study: LayerStudy, name: str, title: str, caption: str, across: _Axis, up: _Axis) -> PanelChart:
    panels = panels_of(_marks(study.rows, across, up), distinct(row.format for row in study.rows))
    cost = {"MACs, %": across.text} if across is _MACS else {}
    table = table_of(study.rows, {**_COLUMNS, **cost, up.label: up.text})
    lines = _dense(study) if up is not _ERROR else ()
    return PanelChart(name, title, caption, table, across.label, up.label, panels, lines, own_x=across is _RANK)


def _over_sensitivity(study: LayerStudy) -> PointChart | None:
    known = [row for row in study.rows if row.sensitivity is not None and row.sensitivity > 0]
    if not known:
        return None
    formats = distinct(row.format for row in known)
    return PointChart(
        "accuracy-sensitivity",
        "Accuracy over the sensitivity",
        "Every layer and rank in a CP format, before fine-tuning. Sensitivity is that of the factors of K / ||K||; "
        "other formats have none.",
        table_of(known, {**_COLUMNS, "sensitivity": _SENSITIVITY.text, _ACCURACY.label: _ACCURACY.text}),
        _SENSITIVITY.label,
        _ACCURACY.label,
        series_of(_marks(known, _SENSITIVITY, _ACCURACY), formats, ["points"] * len(formats)),
        _dense(study),
        x_log=True,
    )


def _marks(rows: Sequence[LayerRow], across: _Axis, up: _Axis) -> list[Mark]:
    return [Mark(row.format, across.value(row), up.value(row), _in_words(row), row.layer) for row in rows]


def _dense(study: LayerStudy) -> tuple[Line, ...]:
    return (Line("dense", 100 * study.dense_accuracy),)


def _rank(row: LayerRow) -> str:
    return ", ".join(map(str, row.rank))


def _in_words(row: LayerRow) -> str:
    tuned = "" if row.accuracy_tuned is None else f", {percent(row.accuracy_tuned)} % tuned"
    return (
        f"{row.layer}, {row.format} {_rank(row)}: error {row.relative_error:.3f}, {100 * row.mac_ratio:.0f} % of the "
        f"MACs, {percent(row.accuracy)} %{tuned}"
    )
