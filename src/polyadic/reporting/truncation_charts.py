"""Charts of a truncation study: norm lost, accuracy lost, where in the network, and what training gives back."""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.reporting.chart import BarChart, Bars, Chart, Colour, Line, PanelChart, Table
from polyadic.reporting.panels import distinct, panel, percent, points, present, scaled
from polyadic.reporting.study_folder import RetrainedRow, Truncation, TruncationRow

_KEPT, _LOST, _SCORE = "share of the rank that is kept", "norm lost, ||K - K^|| / ||K||", "accuracy, %"
_MARKS = (
    ("as truncated", "accuracy"),
    ("random error of that length", "perturbed_accuracy"),
    ("truncated, new batch-norm statistics", "accuracy_recalibrated"),
    ("random error, new batch-norm statistics", "perturbed_accuracy_recalibrated"),
)
_GROUPS = {"all": "all layers", "shallow": "first half of the layers", "deep": "second half of the layers"}


def truncation_charts(study: Truncation) -> list[Chart]:
    """All that there is something to show in."""
    single = [row for row in study.rows if row.kind == "single"]
    joint = [row for row in study.rows if row.kind == "joint"]
    made = (
        _norm(single, [row for row in joint if row.group == "all"]),
        _accuracy(
            study,
            [row for row in joint if row.group == "all"],
            "accuracy",
            "Accuracy against the norm lost, all layers together",
            line=True,
        ),
        _accuracy(study, single, "accuracy-layers", "Accuracy against the norm lost, one layer at a time", line=False),
        _depth(study, single),
        _halves(study, joint),
        _retrained(study),
    )
    return [chart for chart in made if chart is not None]


def _norm(single: Sequence[TruncationRow], together: Sequence[TruncationRow]) -> PanelChart | None:
    rows = [*single, *together]
    panels = present(
        panel(
            _cuts(rows, chain),
            (
                points("one layer", 0, _lost(single, chain, "norm_loss"), line=False),
                points("random kernel of that norm", 1, _lost(single, chain, "gaussian_norm_loss"), line=False),
                points("all layers together", 2, _lost(together, chain, "norm_loss")),
            ),
        )
        for chain in distinct(row.chain for row in rows)
    )
    if not panels:
        return None
    cells = (
        (row.group, row.cuts, f"{row.kept_fraction:.3f}", f"{row.norm_loss:.3f}", _three(row.gaussian_norm_loss))
        for row in rows
    )
    return PanelChart(
        "norm",
        "Norm lost against the rank that is kept",
        "A small plot for each cut. Where the random kernel, which has learnt nothing, loses as much at the same rank, "
        "training has left no correlation along that cut.",
        Table(("layers", "cut", "kept", "norm lost", "of a random kernel"), tuple(cells)),
        _KEPT,
        _LOST,
        panels,
    )


def _accuracy(
    study: Truncation, rows: Sequence[TruncationRow], name: str, title: str, *, line: bool
) -> PanelChart | None:
    panels = present(
        panel(
            _cuts(rows, chain),
            (
                points(
                    label,
                    at,
                    (
                        (row.norm_loss, scaled(getattr(row, column)), f"{_said(row)}; {label}")
                        for row in rows
                        if row.chain == chain
                    ),
                    line=line,
                )
                for at, (label, column) in enumerate(_MARKS)
            ),
        )
        for chain in distinct(row.chain for row in rows)
    )
    if not panels:
        return None
    caption = "On held-out training images. The random error is as long as the truncation error, and has no structure."
    renewed = study.setting("dense_accuracy_recalibrated")
    if renewed is not None:
        caption += f" With new batch-norm statistics the dense network itself is at {percent(renewed)} %."
    tested = any(row.test_accuracy is not None for row in rows)
    columns = ("layers", "cut", "kept", "norm lost", *(label for label, _ in _MARKS), *(("test",) if tested else ()))
    cells = (
        (
            row.group,
            row.cuts,
            f"{row.kept_fraction:.3f}",
            f"{row.norm_loss:.3f}",
            *(percent(getattr(row, column)) for _, column in _MARKS),
            *((percent(row.test_accuracy),) if tested else ()),
        )
        for row in rows
    )
    return PanelChart(name, title, caption, Table(columns, tuple(cells)), _LOST, _SCORE, panels, _dense(study))


def _depth(study: Truncation, single: Sequence[TruncationRow]) -> PanelChart | None:
    placed = [row for row in single if row.position is not None]
    shares = sorted({row.share for row in placed})
    panels = present(
        panel(
            _cuts(placed, chain),
            (
                points(
                    f"{share:g} of the rank",
                    at,
                    (
                        (row.position, scaled(_best_known(row)), _said(row))
                        for row in placed
                        if (row.chain, row.share) == (chain, share)
                    ),
                )
                for at, share in enumerate(shares)
            ),
        )
        for chain in distinct(row.chain for row in placed)
    )
    if not panels or len({row.position for row in placed}) < 2:
        return None
    cells = ((str(row.position), row.group, row.cuts, f"{row.share:g}", percent(_best_known(row))) for row in placed)
    return PanelChart(
        "depth",
        "Accuracy by depth, one layer at a time",
        "Layers from the first (0) to the last that was studied. " + _which(placed),
        Table(("position", "layer", "cut", "share of the rank", _SCORE), tuple(cells)),
        "position of the layer",
        _SCORE,
        panels,
        _level(study, placed),
    )


def _halves(study: Truncation, joint: Sequence[TruncationRow]) -> PanelChart | None:
    groups = [group for group in _GROUPS if any(row.group == group for row in joint)]
    panels = present(
        panel(
            _cuts(joint, chain),
            (
                points(
                    _GROUPS[group],
                    at,
                    (
                        (row.norm_loss, scaled(_best_known(row)), _said(row))
                        for row in joint
                        if (row.chain, row.group) == (chain, group)
                    ),
                )
                for at, group in enumerate(groups)
            ),
        )
        for chain in distinct(row.chain for row in joint)
    )
    if not panels or len(groups) < 2:
        return None
    cells = (
        (_GROUPS[row.group], row.cuts, f"{row.norm_loss:.3f}", percent(_best_known(row)), percent(row.test_accuracy))
        for row in joint
        if row.group in _GROUPS
    )
    return PanelChart(
        "halves",
        "Which half bears more",
        "Layers truncated together: all, and the first and the second half of them. " + _which(joint),
        Table(("layers", "cut", "norm lost", _SCORE, "test, %"), tuple(cells)),
        _LOST,
        _SCORE,
        panels,
        _level(study, joint),
    )


def _retrained(study: Truncation) -> BarChart | None:
    rows = study.retrained
    if not rows:
        return None
    dense = study.setting("dense_test_accuracy")
    stages: tuple[tuple[str, Colour, str], ...] = (
        ("truncated", "dense", "accuracy_before"),
        ("trained again", "c0", "accuracy_after"),
        ("trained again, test images", "c2", "test_accuracy"),
    )
    series = (Bars(label, colour, tuple(scaled(getattr(row, name)) for row in rows)) for label, colour, name in stages)
    epochs = max((row.epochs or 0 for row in rows), default=0)
    return BarChart(
        "retrained",
        "What training gives back",
        f"All layers truncated, then trained for {epochs} epoch{'' if epochs == 1 else 's'}: dense kernels, whose "
        "ranks may rise, or their factors, whose ranks stay."
        + ("" if dense is None else f" The dense network is at {percent(dense)} % of the test images."),
        Table(
            ("cuts", "share", "trained", "numbers in the kernels, %", "before, %", "after, %", "test, %"),
            tuple(
                (
                    _short(row.chain),
                    f"{row.share:g}",
                    row.form,
                    f"{100 * row.parameter_ratio:.1f}",
                    *(percent(getattr(row, name)) for _, _, name in stages),
                )
                for row in rows
            ),
        ),
        "accuracy, %",
        tuple(_name(row) for row in rows),
        tuple(bars for bars in series if any(value is not None for value in bars.values)),
    )


def _name(row: RetrainedRow) -> str:
    return f"{_short(row.chain)} at {row.share:g}, {row.form}"


def _short(chain: str) -> str:
    return "+".join(part.partition("|")[0] for part in chain.split("+"))


def _cuts(rows: Sequence[TruncationRow], chain: str) -> str:
    return next(row.cuts for row in rows if row.chain == chain)


def _lost(rows: Sequence[TruncationRow], chain: str, column: str) -> list[tuple[float, float | None, str]]:
    return [(row.kept_fraction, getattr(row, column), _said(row)) for row in rows if row.chain == chain]


def _best_known(row: TruncationRow) -> float:
    """With new batch-norm statistics, where the network has any."""
    return row.accuracy if row.accuracy_recalibrated is None else row.accuracy_recalibrated


def _which(rows: Sequence[TruncationRow]) -> str:
    renewed = any(row.accuracy_recalibrated is not None for row in rows)
    return "Accuracies are those with new batch-norm statistics." if renewed else "There is no batch norm to renew."


def _dense(study: Truncation) -> tuple[Line, ...]:
    dense, renewed = study.setting("dense_accuracy"), study.setting("dense_accuracy_recalibrated")
    known = (("dense", dense), ("dense under new statistics", renewed))
    return tuple(Line(label, 100 * value) for label, value in known if value is not None)


def _level(study: Truncation, rows: Sequence[TruncationRow]) -> tuple[Line, ...]:
    """The dense network as the rows are drawn: under new statistics, if they are."""
    renewed = any(row.accuracy_recalibrated is not None for row in rows)
    return tuple(line for line in _dense(study) if line.label.endswith("statistics") == renewed)


def _said(row: TruncationRow) -> str:
    return (
        f"{row.group}, {row.cuts} at {row.share:g}: norm lost {row.norm_loss:.3f}, accuracy {percent(row.accuracy)} %, "
        f"{percent(row.accuracy_recalibrated) or 'no'} % recalibrated"
    )


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
