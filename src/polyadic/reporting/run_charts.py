"""Charts of the run: the drop beside what was allowed, the search, the front of its plans, the fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.reporting.chart import SERIES, Chart, Line, PointChart, Points, Table
from polyadic.reporting.records import Record, epoch_records, finite, harm_measure, trial_records
from polyadic.reporting.result_folder import ResultFolder
from polyadic.reporting.search_folder import SearchFolder
from polyadic.reporting.trial_file import Searched
from polyadic.schema import Summary

_LOW = 220  # height of a curve
_HARM = {
    "drop": "drop before fine-tuning, points on held-out images",
    "loss": "divergence from the dense outputs, nats",
}


def drop_chart(summaries: Sequence[tuple[str, Summary]]) -> PointChart | None:
    """The drop of each network with its 95 % interval, and what was allowed; None where no drop is a number."""
    shown = [(label, summary) for label, summary in summaries if finite(summary.drop) is not None]
    if not shown:
        return None
    series, rows = [], []
    for at, (label, summary) in enumerate(shown):
        low, high = summary.drop_interval or (summary.drop, summary.drop)
        height, colour = float(-at), SERIES[at % len(SERIES)]
        said = f"{summary.drop:.2f} points" + (f", 95 %: {low:.2f} to {high:.2f}" if summary.drop_interval else "")
        if low < high:
            series.append(Points("", colour, (low, high), (height, height), (said, said), "line"))
        series.append(Points(label, colour, (summary.drop,), (height,), (said,), symbol=at))
        allowed = "" if summary.max_drop is None else f"{summary.max_drop:g}"
        interval = f"{low:.2f} to {high:.2f}" if summary.drop_interval else ""
        rows.append((label, f"{summary.drop:.2f}", interval, allowed))
    bounds = dict.fromkeys(summary.max_drop for _, summary in shown if summary.max_drop is not None)
    return PointChart(
        "drop",
        "Drop on the test images",
        "Points lost, with the 95 % interval that the number of test images allows, paired image by image.",
        Table(("network", "drop, points", "95 % interval", "allowed, points"), tuple(rows)),
        "points lost (negative: gained)",
        None,
        tuple(series),
        (*(Line(f"allowed {bound:g}", bound, "x") for bound in bounds), Line("no loss", 0.0, "x")),
        height=84 + 32 * len(shown),
    )


def search_charts(folder: ResultFolder | SearchFolder) -> list[Chart]:
    """The history of the search and the front of the whole plans, as far as the log tells."""
    rows, searched = trial_records(folder), folder.searched
    made = (_history(rows, searched.fate), _front(rows, searched))
    return [chart for chart in made if chart is not None]


def finetuning_charts(summary: Summary) -> list[Chart]:
    """Held-out score and training loss, epoch by epoch."""
    rows = epoch_records(summary)
    table = _epoch_table(rows)
    known = (("dense", summary.held_out.get("dense")), ("before", summary.held_out.get("before_finetuning")))
    lines = tuple(Line(label, 100.0 * at) for label, value in known if (at := finite(value)) is not None)
    made: list[Chart] = []
    if score := _curve(rows, "score", "score, %", 100.0):
        said = f"On held-out images, which training does not see.{_gone(rows, 'score')}"
        made.append(
            PointChart("finetuning", "Fine-tuning: score", said, table, "epoch", "score, %", (score,), lines, _LOW)
        )
    if loss := _curve(rows, "loss", "training loss", 1.0):
        said = f"Mean of the training objective over the steps of an epoch.{_gone(rows, 'loss')}"
        made.append(
            PointChart("finetuning-loss", "Fine-tuning: loss", said, table, "epoch", loss.label, (loss,), height=_LOW)
        )
    return made


def _history(rows: list[Record], fate: str) -> PointChart | None:
    shown = [row for row in rows if row["drop"] is not None]
    if not shown:
        return None
    scopes = (("layer", "one layer"), ("network", "whole network"))
    series = [
        _points(label, index, [row for row in shown if row["scope"] == scope], "trial", "drop")
        for index, (scope, label) in enumerate(scopes)
    ]
    thresholds = {row["threshold"] for row in shown if row["threshold"] is not None}
    lines = tuple(Line(f"one layer may lose {value:.2g}", value) for value in sorted(thresholds))
    return PointChart(
        "search",
        "History of the search",
        f"{len(rows)} trials, scored on held-out training images: single layers after their own fine-tuning where that "
        "could decide, whole networks before any.",
        _trial_table(rows, fate),
        "trial",
        "drop, points",
        tuple(points for points in series if points.x),
        lines,
    )


def _front(rows: list[Record], searched: Searched) -> PointChart | None:
    measure = harm_measure(rows)
    wholes = [row for row in rows if row["scope"] == "network" and row["macs"] is not None]
    shown = [row for row in wholes if row[measure] is not None]
    if len({row["plan"] for row in shown}) < 2:
        return None
    front = sorted((row for row in shown if row["front"]), key=lambda row: int(row["macs"]))
    chosen = [row for row in shown if row["chosen"]]
    across = [
        ("budget", searched.limits.get("macs")),
        ("dense", searched.dense_macs),
        (searched.fate, None if chosen else searched.macs),
    ]
    series = (
        _points("plans", 0, [row for row in shown if not row["front"]], "macs", measure),
        _points("front: no other is cheaper and better", 1, front, "macs", measure, kind="step"),
        _points(f"the plan that was {searched.fate}", 2, chosen[-1:], "macs", measure),
    )
    return PointChart(
        "front",
        "Cost and harm of whole plans",
        "Every whole network that the search tried, before fine-tuning. The step joins the Pareto front: the plans "
        "that no other beats in both."
        + ("" if chosen else f" The plan that was {searched.fate} is none of them; a line shows its MACs."),
        _trial_table(wholes, searched.fate),
        "MACs of the whole network",
        _HARM[measure],
        tuple(points for points in series if points.x),
        tuple(Line(label, float(at), "x") for label, at in across if at is not None),
        y_log=measure == "loss" and all(row[measure] > 0 for row in shown),
    )


def _points(label: str, index: int, rows: list[Record], x: str, y: str, *, kind: str = "points") -> Points:
    texts = tuple(f"trial {row['trial']}: {row['plan']}" for row in rows)
    texts = tuple(text if len(text) <= 240 else text[:237] + "..." for text in texts)
    return Points(
        label,
        SERIES[index],
        tuple(float(row[x]) for row in rows),
        tuple(float(row[y]) for row in rows),
        texts,
        "step" if kind == "step" else "points",
        index,
    )


def _curve(rows: list[Record], key: str, label: str, scale: float) -> Points | None:
    """The epochs that have a number under ``key``; None where none has."""
    known = [(float(at), scale * value) for at, row in enumerate(rows, 1) if (value := finite(row[key])) is not None]
    if not known:
        return None
    x, y = zip(*known, strict=True)
    return Points(label, "c0", x, y, tuple(f"epoch {at:g}: {value:.4g}" for at, value in known), "line")


def _gone(rows: list[Record], key: str) -> str:
    gone = sum(finite(row[key]) is None for row in rows)
    if not gone:
        return ""
    return (
        f" {gone} epoch{'s have' if gone > 1 else ' has'} no {key}: training diverged and the best state was put back."
    )


def _epoch_table(rows: list[Record]) -> Table:
    return Table(
        ("epoch", "held-out score, %", "loss", "learning rate", "diverged"),
        tuple(
            (
                str(row["epoch"]),
                _number(row["score"], "{:.2f}", 100),
                _number(row["loss"], "{:.4g}"),
                _number(row["learning_rate"], "{:.2g}"),
                "yes" if row["diverged"] else "",
            )
            for row in rows
        ),
    )


def _trial_table(rows: list[Record], fate: str) -> Table:
    columns = ("trial", "what was replaced", "MACs of the network", "drop, points", "divergence", "remark")
    return Table(
        columns,
        tuple(
            (
                str(row["trial"]),
                row["plan"] if row["layers"] <= 3 else f"{row['layers']} layers",
                "" if row["macs"] is None else f"{row['macs']:,}",
                _number(row["drop"], "{:.2f}"),
                _number(row["loss"], "{:.4f}"),
                ", ".join(word for word, said in (("front", row["front"]), (fate, row["chosen"])) if said),
            )
            for row in rows
        ),
        tuple(at for at, row in enumerate(rows) if row["chosen"]),
    )


def _number(value: object, form: str, scale: float = 1.0) -> str:
    number = finite(value)
    return "" if number is None else form.format(scale * number)
