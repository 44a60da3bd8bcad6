"""Charts of a truncation study: norm lost, accuracy lost, where in the network, and what training gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polyadic.reporting.chart import (
    BarChart,
    Bars,
    Chart,
    Colour,
    Line,
    Mark,
    PanelChart,
    in_percent,
    number_text,
    panels_of,
    percent,
    table_of,
    with_content,
)
from polyadic.schema import RetrainedRow, TruncationRow, TruncationStudy

_KEPT, _LOST, _SCORE = "share of the rank that is kept", "norm lost, ||K - K^|| / ||K||", "accuracy, %"
_MARKS = {
    "as truncated": "accuracy",
    "random error of that length": "perturbed_accuracy",
    "truncated, new batch-norm statistics": "accuracy_recalibrated",
    "random error, new batch-norm statistics": "perturbed_accuracy_recalibrated",
}
_GROUPS = {"all": "all layers", "shallow": "first half of the layers", "deep": "second half of the layers"}
_Rows = Sequence[TruncationRow]


def truncation_charts(study: TruncationStudy) -> list[Chart]:
    """All that there is something to show in."""
    single = [row for row in study.rows if row.kind == "single"]
    joint = [row for row in study.rows if row.kind == "joint"]
    together = [row for row in joint if row.group == "all"]
    against = "Accuracy against the norm lost, "
    made = (
        _norm(single, together),
        _accuracy(study, together, "accuracy", f"{against}all layers together"),
        _accuracy(study, single, "accuracy-layers", f"{against}one layer at a time", joined=False),
        _depth(study, single),
        _halves(study, joint),
        _retrained(study),
    )
    return with_content(made)


def _norm(single: _Rows, together: _Rows) -> PanelChart | None:
    rows, labels = [*single, *together], ("one layer", "random kernel of that norm", "all layers together")
    series = (
        (single, labels[0], "norm_loss"),
        (single, labels[1], "gaussian_norm_loss"),
        (together, labels[2], "norm_loss"),
    )
    marks = [
        Mark(label, row.kept_fraction, getattr(row, column), _in_words(row), _cuts(row))
        for of, label, column in series
        for row in of
    ]
    panels = panels_of(marks, labels, ("points", "points", "line"))
    return PanelChart(
        "norm",
        "Norm lost against the rank that is kept",
        "A small plot for each cut. Where the random kernel, which has learnt nothing, loses as much at the same rank, "
        "training has left no correlation along that cut.",
        table_of(rows, _cells("layers", "cut", "kept", "norm lost", "of a random kernel")),
        _KEPT,
        _LOST,
        panels,
    )


def _accuracy(study: TruncationStudy, rows: _Rows, name: str, title: str, *, joined: bool = True) -> PanelChart | None:
    marks = [
        Mark(label, row.norm_loss, in_percent(getattr(row, column)), f"{_in_words(row)}; {label}", _cuts(row))
        for row in rows
        for label, column in _MARKS.items()
    ]
    panels = panels_of(marks, list(_MARKS), ["line" if joined else "points"] * len(_MARKS))
    caption = "On held-out training images. The random error is as long as the truncation error, and has no structure."
    renewed = study.setting("dense_accuracy_recalibrated")
    if renewed is not None:
        caption += f" With new batch-norm statistics the dense network itself is at {percent(renewed)} %."
    tested = ("test",) if any(row.test_accuracy is not None for row in rows) else ()
    table = table_of(rows, _cells("layers", "cut", "kept", "norm lost", *_MARKS, *tested))
    return PanelChart(name, title, caption, table, _LOST, _SCORE, panels, _dense(study))


def _depth(study: TruncationStudy, single: _Rows) -> PanelChart | None:
    of_rank = "{:g} of the rank".format
    placed = [row for row in single if row.position is not None]
    marks = [
        Mark(of_rank(row.share), row.position, in_percent(_best_known(row)), _in_words(row), _cuts(row))
        for row in placed
    ]
    panels = panels_of(marks, [of_rank(share) for share in sorted({row.share for row in placed})])
    if len({row.position for row in placed}) < 2:
        return None
    return PanelChart(
        "depth",
        "Accuracy by depth, one layer at a time",
        "Layers from the first (0) to the last that was studied. " + _which(placed),
        table_of(placed, _cells("position", "layer", "cut", "share of the rank", _SCORE)),
        "position of the layer",
        _SCORE,
        panels,
        _level(study, placed),
    )


def _halves(study: TruncationStudy, joint: _Rows) -> PanelChart | None:
    rows = [row for row in joint if row.group in _GROUPS]
    groups = [name for group, name in _GROUPS.items() if any(row.group == group for row in rows)]
    marks = [
        Mark(_GROUPS[row.group], row.norm_loss, in_percent(_best_known(row)), _in_words(row), _cuts(row))
        for row in rows
    ]
    panels = panels_of(marks, groups)
    if len(groups) < 2:
        return None
    return PanelChart(
        "halves",
        "Which half bears more",
        "Layers truncated together: all, and the first and the second half of them. " + _which(joint),
        table_of(rows, {**_cells("layers", "cut", "norm lost", _SCORE, "test, %"), "layers": _half}),
        _LOST,
        _SCORE,
        panels,
        _level(study, joint),
    )


def _retrained(study: TruncationStudy) -> BarChart | None:
    rows = study.retrained
    if not rows:
        return None
    dense = study.setting("dense_test_accuracy")
    stages: tuple[tuple[str, Colour, Callable[[RetrainedRow], float | None]], ...] = (
        ("truncated", "dense", lambda row: row.accuracy_before),
        ("trained again", "c0", lambda row: row.accuracy_after),
        ("trained again, test images", "c2", lambda row: row.test_accuracy),
    )
    series = (Bars(label, colour, tuple(in_percent(value(row)) for row in rows)) for label, colour, value in stages)
    epochs = max((row.epochs or 0 for row in rows), default=0)
    columns: dict[str, Callable[[RetrainedRow], str]] = {
        "cuts": lambda row: _sides(row.chain),
        "share": lambda row: f"{row.share:g}",
        "trained": lambda row: row.form,
        "numbers in the kernels, %": lambda row: f"{100 * row.parameter_ratio:.1f}",
        "before, %": lambda row: percent(row.accuracy_before),
        "after, %": lambda row: percent(row.accuracy_after),
        "test, %": lambda row: percent(row.test_accuracy),
    }
    return BarChart(
        "retrained",
        "What training gives back",
        f"All layers truncated, then trained for {epochs} epoch{'' if epochs == 1 else 's'}: dense kernels, whose "
        "ranks may rise, or their factors, whose ranks stay."
        + ("" if dense is None else f" The dense network is at {percent(dense)} % of the test images."),
        table_of(rows, columns),
        _SCORE,
        tuple(f"{_sides(row.chain)} at {row.share:g}, {row.form}" for row in rows),
        tuple(bars for bars in series if any(value is not None for value in bars.values)),
    )


def _sides(chain: str) -> str:
    """A chain by one side of each cut."""
    return "+".join(cut.partition("|")[0] for cut in chain.split("+"))


def _cuts(row: TruncationRow) -> str:
    """The chain by one side of each cut; a single cut in full."""
    return _sides(row.chain) if "+" in row.chain else row.chain


def _cell(column: str, form: str, scale: float = 1.0) -> Callable[[TruncationRow], str]:
    return lambda row: number_text(getattr(row, column), form, scale)


_CELLS: dict[str, Callable[[TruncationRow], str]] = {
    "position": lambda row: str(row.position),
    "layer": lambda row: row.group,
    "layers": lambda row: row.group,
    "cut": _cuts,
    "share of the rank": _cell("share", "{:g}"),
    "kept": _cell("kept_fraction", "{:.3f}"),
    "norm lost": _cell("norm_loss", "{:.3f}"),
    "of a random kernel": _cell("gaussian_norm_loss", "{:.3f}"),
    **{label: _cell(column, "{:.2f}", 100.0) for label, column in _MARKS.items()},
    _SCORE: lambda row: percent(_best_known(row)),
    "test": _cell("test_accuracy", "{:.2f}", 100.0),
    "test, %": _cell("test_accuracy", "{:.2f}", 100.0),
}
"""What stands in a table under each heading."""


def _cells(*headings: str) -> dict[str, Callable[[TruncationRow], str]]:
    return {heading: _CELLS[heading] for heading in headings}


def _half(row: TruncationRow) -> str:
    return _GROUPS[row.group]


def _best_known(row: TruncationRow) -> float:
    """With new batch-norm statistics, where the network has any."""
    return row.accuracy if row.accuracy_recalibrated is None else row.accuracy_recalibrated


def _which(rows: _Rows) -> str:
    renewed = any(row.accuracy_recalibrated is not None for row in rows)
    return "Accuracies are those with new batch-norm statistics." if renewed else "There is no batch norm to renew."


def _dense(study: TruncationStudy) -> tuple[Line, ...]:
    dense, renewed = study.setting("dense_accuracy"), study.setting("dense_accuracy_recalibrated")
    known = (("dense", dense), ("dense under new statistics", renewed))
    return tuple(Line(label, 100 * value) for label, value in known if value is not None)


def _level(study: TruncationStudy, rows: _Rows) -> tuple[Line, ...]:
    """The dense network as the rows are drawn: under new statistics, if they are."""
    renewed = any(row.accuracy_recalibrated is not None for row in rows)
    return tuple(line for line in _dense(study) if line.label.endswith("statistics") == renewed)


def _in_words(row: TruncationRow) -> str:
    return (
        f"{row.group}, {_cuts(row)} at {row.share:g}: norm lost {row.norm_loss:.3f}, accuracy {percent(row.accuracy)} "
        f"%, {percent(row.accuracy_recalibrated) or 'no'} % recalibrated"
    )
