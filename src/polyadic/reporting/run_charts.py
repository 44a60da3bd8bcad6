"""Charts of the run: the drop beside what was allowed, the search, the front of its plans, the fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polyadic.reporting.chart import (
    Chart,
    Line,
    Mark,
    PointChart,
    Points,
    Table,
    finite,
    number_text,
    series_colour,
    series_of,
    table_of,
    with_content,
)
from polyadic.reporting.folder import Folder
from polyadic.reporting.records import Record, epoch_records, loss_measure, trial_records
from polyadic.schema import Budget, SearchResult, Summary

_LOW = 220  # height of a curve
_MEASURES = {
    "drop": "drop before fine-tuning, points on held-out images",
    "loss": "divergence from the dense outputs, nats",
}
_DROP_COLUMNS: dict[str, Callable[[tuple[str, Summary]], str]] = {
    "network": lambda named: named[0],
    "drop, points": lambda named: f"{named[1].drop:.2f}",
    "95 % interval": lambda named: interval_text(named[1].drop_interval),
    "allowed, points": lambda named: number_text(named[1].max_drop, "{:g}"),
}
_EPOCH_COLUMNS: dict[str, Callable[[Record], str]] = {
    "epoch": lambda row: str(row["epoch"]),
    "held-out score, %": lambda row: number_text(row["score"], "{:.2f}", 100),
    "loss": lambda row: number_text(row["loss"], "{:.4g}"),
    "learning rate": lambda row: number_text(row["learning_rate"], "{:.2g}"),
    "diverged": lambda row: "yes" if row["diverged"] else "",
}


def drop_chart(summaries: Sequence[tuple[str, Summary]]) -> PointChart | None:
    """The drop of each network with its 95 % interval, and what was allowed; None where no drop is a number."""
    shown = [(label, summary) for label, summary in summaries if finite(summary.drop) is not None]
    if not shown:
        return None
    series: list[Points] = []
    for at, (label, summary) in enumerate(shown):
        low, high = summary.drop_interval or (summary.drop, summary.drop)
        height, colour = float(-at), series_colour(at)
        words = summary.words
        said = words.amount(summary.drop) + (f", 95 %: {low:.2f} to {high:.2f}" if summary.drop_interval else "")
        if low < high:
            series.append(Points("", colour, (low, high), (height, height), (said, said), "line"))
        series.append(Points(label, colour, (summary.drop,), (height,), (said,), symbol=at))
    bounds = dict.fromkeys(summary.max_drop for _, summary in shown if summary.max_drop is not None)
    return PointChart(
        "drop",
        "Drop on the test images" if all(one.judged_on == "test images" for _, one in shown) else "Drop of the score",
        "Points lost, with the 95 % interval that the number of test images allows, paired image by image."
        if any(one.drop_interval for _, one in shown) or all(one.score_is_fraction for _, one in shown)
        else "Points lost, each 0.01 of the score.",
        table_of(shown, _DROP_COLUMNS),
        "points lost (negative: gained)",
        None,
        tuple(series),
        (*(Line(f"allowed {bound:g}", bound, "x") for bound in bounds), Line("no loss", 0.0, "x")),
        height=84 + 32 * len(shown),
    )


def search_charts(folder: Folder[Summary] | Folder[SearchResult]) -> list[Chart]:
    """The history of the search and the front of the whole plans, as far as the log tells."""
    rows = trial_records(folder)
    return with_content((_history(rows, _fate(folder)), _front(rows, folder)))


def finetuning_charts(summary: Summary) -> list[Chart]:
    """Held-out score and training loss, epoch by epoch."""
    rows = epoch_records(summary)
    table = table_of(rows, _EPOCH_COLUMNS)
    known = (("dense", summary.held_out.get("dense")), ("before", summary.held_out.get("before_finetuning")))
    across = tuple(Line(label, 100.0 * at) for label, value in known if (at := finite(value)) is not None)
    seen, mean = "On held-out images, which training does not see.", "Mean of the training objective over the steps of"
    figures: tuple[tuple[str, str, str, float, str, tuple[Line, ...]], ...] = (
        ("finetuning", "score", "score, %", 100.0, seen, across),
        ("finetuning-loss", "loss", "training loss", 1.0, f"{mean} an epoch.", ()),
    )
    made: list[Chart] = []
    for name, key, label, scale, caption, lines in figures:
        marks = [
            Mark(label, at, scale * value, f"epoch {at}: {scale * value:.4g}")
            for at, row in enumerate(rows, 1)  # in the order in which they were run, repeated ones included
            if (value := finite(row[key])) is not None
        ]
        if marks:
            title, said, curve = f"Fine-tuning: {key}", caption + _without(rows, key), series_of(marks, [label])
            made.append(PointChart(name, title, said, table, "epoch", label, curve, lines, _LOW))
    return made


def _history(rows: list[Record], fate: str) -> PointChart | None:
    shown = [row for row in rows if row["drop"] is not None]
    if not shown:
        return None
    scopes = {"layer": "one layer", "network": "whole network"}
    marks = [Mark(scopes[row["scope"]], row["trial"], row["drop"], _in_words(row)) for row in shown]
    thresholds = {row["threshold"] for row in shown if row["threshold"] is not None}
    return PointChart(
        "search",
        "History of the search",
        f"{len(rows)} trials, scored on held-out training images: single layers after their own fine-tuning where that "
        "could decide, whole networks before any.",
        _trial_table(rows, fate),
        "trial",
        "drop, points",
        series_of(marks, list(scopes.values()), ("points", "points")),
        tuple(Line(f"one layer may lose {value:.2g}", value) for value in sorted(thresholds)),
    )


def _front(rows: list[Record], folder: Folder[Summary] | Folder[SearchResult]) -> PointChart | None:
    measure, result, fate = loss_measure(rows), folder.result, _fate(folder)
    wholes = [row for row in rows if row["scope"] == "network" and row["macs"] is not None]
    shown = [row for row in wholes if row[measure] is not None]
    if len({row["plan"] for row in shown}) < 2:
        return None
    chosen = [row for row in shown if row["chosen"]][-1:]
    labels = ("plans", "front: no other is cheaper and better", f"the plan that was {fate}")
    marks = [Mark(labels[row["front"]], row["macs"], row[measure], _in_words(row)) for row in shown]
    marks += [Mark(labels[2], row["macs"], row[measure], _in_words(row)) for row in chosen]
    cost = result.compressed if isinstance(result, Summary) else result.tried.cost
    across = (
        ("budget", Budget.from_text(str(result.provenance.get("budget") or "")).macs),
        ("dense", result.dense.macs),
        (fate, None if chosen else cost.macs),
    )
    return PointChart(
        "front",
        "Cost and loss of whole plans",
        "Every whole network that the search tried, before fine-tuning. The step joins the Pareto front: the plans "
        "that no other beats in both."
        + ("" if chosen else f" The plan that was {fate} is none of them; a line shows its MACs."),
        _trial_table(wholes, fate),
        "MACs of the whole network",
        _MEASURES[measure],
        series_of(marks, labels, ("points", "step", "points")),
        tuple(Line(label, float(at), "x") for label, at in across if at is not None),
        y_log=measure == "loss" and all(row[measure] > 0 for row in shown),
    )


def _fate(folder: Folder[Summary] | Folder[SearchResult]) -> str:
    """What became of the plan, to be put after "the plan that was"."""
    return "carried out" if isinstance(folder.result, Summary) else "found"


def _in_words(row: Record) -> str:
    text = f"trial {row['trial']}: {row['plan']}"
    return text if len(text) <= 240 else text[:237] + "..."


def _without(rows: list[Record], key: str) -> str:
    gone = sum(finite(row[key]) is None for row in rows)
    if not gone:
        return ""
    return (
        f" {gone} epoch{'s have' if gone > 1 else ' has'} no {key}: training diverged and the best state was put back."
    )


def _trial_table(rows: list[Record], fate: str) -> Table:
    columns: dict[str, Callable[[Record], str]] = {
        "trial": lambda row: str(row["trial"]),
        "what was replaced": lambda row: row["plan"] if row["layers"] <= 3 else f"{row['layers']} layers",
        "MACs of the network": lambda row: number_text(row["macs"], "{:,.0f}"),
        "drop, points": lambda row: number_text(row["drop"], "{:.2f}"),
        "divergence": lambda row: number_text(row["loss"], "{:.4f}"),
        "remark": lambda row: ", ".join(
            word for word, said in (("front", row["front"]), (fate, row["chosen"])) if said
        ),
    }
    return table_of(rows, columns, lambda row: bool(row["chosen"]))


def interval_text(interval: tuple[float, float] | None) -> str:
    """Both ends, or nothing where it was not measured."""
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
