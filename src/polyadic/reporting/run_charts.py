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
from polyadic.reporting.loss_words import divergence_axis, divergence_label, held_out_words
from polyadic.reporting.records import Record, epoch_records, loss_measure, trial_records
from polyadic.schema import Budget, ScoreWords, SearchResult, Summary

_LOW = 220  # height of a curve
_DROP_COLUMNS: dict[str, Callable[[tuple[str, Summary]], str]] = {
    "network": lambda named: named[0],
    "drop": lambda named: named[1].words.amount(named[1].drop),
    "95 % interval": lambda named: interval_text(named[1]),
    "allowed": lambda named: "" if named[1].max_drop is None else named[1].words.allowed(named[1].max_drop),
}


def drop_chart(summaries: Sequence[tuple[str, Summary]]) -> PointChart | None:
    """The drop of each network with its 95 % interval, and what was allowed.

    None where no drop is a number, or where they have different units.
    """
    shown = [(label, summary) for label, summary in summaries if finite(summary.drop) is not None]
    units = {summary.words.drop_unit for _, summary in shown}
    if len(units) != 1:
        return None
    unit = units.pop() or "the score's own unit"
    series: list[Points] = []
    for at, (label, summary) in enumerate(shown):
        low, high = summary.drop_interval or (summary.drop, summary.drop)
        height, colour = float(-at), series_colour(at)
        words = summary.words
        said = words.amount(summary.drop) + (f", 95 %: {interval_text(summary)}" if summary.drop_interval else "")
        if low < high:
            series.append(Points("", colour, (low, high), (height, height), (said, said), "line"))
        series.append(Points(label, colour, (summary.drop,), (height,), (said,), symbol=at))
    bounds = dict.fromkeys(summary.max_drop for _, summary in shown if summary.max_drop is not None)
    return PointChart(
        "drop",
        "Drop on the test images" if all(one.judged_on == "test images" for _, one in shown) else "Drop of the score",
        f"What was lost, in {unit}"
        + (
            ", with the 95 % interval that the number of samples allows, paired sample by sample."
            if any(one.drop_interval for _, one in shown)
            else "."
        ),
        table_of(shown, _DROP_COLUMNS),
        f"{unit} lost (negative: gained)",
        None,
        tuple(series),
        (*(Line(f"allowed {bound:g}", bound, "x") for bound in bounds), Line("no loss", 0.0, "x")),
        height=84 + 32 * len(shown),
    )


def search_charts(folder: Folder[Summary] | Folder[SearchResult]) -> list[Chart]:
    """The history of the search and the front of the whole plans, as far as the log tells."""
    rows = trial_records(folder)
    return with_content((_history(rows, folder), _front(rows, folder)))


def finetuning_charts(summary: Summary) -> list[Chart]:
    """Held-out score and training loss, epoch by epoch."""
    rows, words = epoch_records(summary), summary.words
    percent = 100.0 if words.fraction else 1.0
    table = table_of(rows, _epoch_columns(words))
    known = (("dense", summary.held_out.get("dense")), ("before", summary.held_out.get("before_finetuning")))
    across = tuple(Line(label, percent * at) for label, value in known if (at := finite(value)) is not None)
    seen = f"On {held_out_words(summary.provenance)}, which training does not see."
    mean = "Mean of the training objective over the steps of"
    figures: tuple[tuple[str, str, str, float, str, tuple[Line, ...]], ...] = (
        ("finetuning", "score", words.label("score"), percent, seen, across),
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


def _epoch_columns(words: ScoreWords) -> dict[str, Callable[[Record], str]]:
    return {
        "epoch": lambda row: str(row["epoch"]),
        words.label("held-out score"): lambda row: "" if finite(row["score"]) is None else words.number(row["score"]),
        "loss": lambda row: number_text(row["loss"], "{:.4g}"),
        "learning rate": lambda row: number_text(row["learning_rate"], "{:.2g}"),
        "diverged": lambda row: "yes" if row["diverged"] else "",
    }


def _history(rows: list[Record], folder: Folder[Summary] | Folder[SearchResult]) -> PointChart | None:
    shown = [row for row in rows if row["drop"] is not None]
    if not shown:
        return None
    scopes = {"layer": "one layer", "network": "whole network"}
    marks = [Mark(scopes[row["scope"]], row["trial"], row["drop"], _in_words(row)) for row in shown]
    thresholds = {row["threshold"] for row in shown if row["threshold"] is not None}
    return PointChart(
        "search",
        "History of the search",
        f"{len(rows)} trials, scored on {held_out_words(folder.result.provenance)}: single layers after their own "
        "fine-tuning where that could decide, whole networks before any.",
        _trial_table(rows, folder),
        "trial",
        folder.result.words.lost_label("drop"),
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
        _trial_table(wholes, folder),
        "MACs of the whole network",
        divergence_axis(result.provenance)
        if measure == "loss"
        else f"{result.words.lost_label('drop before fine-tuning')} on {held_out_words(result.provenance)}",
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


def _trial_table(rows: list[Record], folder: Folder[Summary] | Folder[SearchResult]) -> Table:
    fate, words, known = _fate(folder), folder.result.words, folder.result.provenance
    columns: dict[str, Callable[[Record], str]] = {
        "trial": lambda row: str(row["trial"]),
        "what was replaced": lambda row: row["plan"] if row["layers"] <= 3 else f"{row['layers']} layers",
        "MACs of the network": lambda row: number_text(row["macs"], "{:,.0f}"),
        words.lost_label("drop"): lambda row: "" if row["drop"] is None else words.lost(row["drop"]),
        divergence_label(known): lambda row: number_text(row["loss"], "{:.4f}"),
        "remark": lambda row: ", ".join(
            word for word, said in (("front", row["front"]), (fate, row["chosen"])) if said
        ),
    }
    return table_of(rows, columns, lambda row: bool(row["chosen"]))


def interval_text(summary: Summary) -> str:
    """Both ends of the interval of the drop, or nothing where it was not measured."""
    return "" if summary.drop_interval is None else " to ".join(map(summary.words.lost, summary.drop_interval))
