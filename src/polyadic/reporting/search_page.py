"""The page of a search: the plan that it found, how it found it, and what else there was to choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from polyadic.reporting.chart import Chart, Table
from polyadic.reporting.layer_charts import strip, what_happened
from polyadic.reporting.page import Html, provenance_rows, rendered
from polyadic.reporting.records import Record, finite, plan_in_words, trial_records
from polyadic.reporting.run_charts import search_charts
from polyadic.reporting.search_folder import Found, PlannedLayer, SearchFolder, TriedNetwork, found_in
from polyadic.reporting.svg import drawings
from polyadic.reporting.tables import fewer
from polyadic.reporting.verdict import Verdict, on_budget, points
from polyadic.schema import Cost, Svg

_LAYER_COLUMNS = ("layer", "what the plan does", "MACs before", "after", "why")
_PLANNED = tuple(part.name for part in fields(PlannedLayer))
_MEASURES = {"macs": "MACs", "params": "parameters", "bytes": "bytes", "latency": "latency"}
_FRONT_COLUMNS = ("MACs", "% of dense", "parameters", "drop, points", "divergence", "plan")


def search_html(folder: SearchFolder) -> str:
    """The page."""
    found = folder.found
    return rendered(
        "search.html",
        title=f"{folder.model or 'A network'}, a plan",
        folder=folder,
        found=found,
        headline=search_headline(found),
        charts={chart.name: chart for chart in search_page_charts(folder)},
        layers=_layer_table(folder),
        front=_front_table(found),
        measure=_MEASURES[next(iter(folder.searched.limits), "macs")],
        provenance=provenance_rows(found.provenance),
        notes=_notes(folder),
    )


def search_page_charts(folder: SearchFolder) -> list[Chart]:
    """Every chart that there is something to show in."""
    found = strip(folder.found.outcomes(), folder.found.dense.macs, title="The plan, layer by layer")
    return [*([found] if found is not None else []), *search_charts(folder)]


def found_html(document: Mapping[str, Any]) -> Html:
    """What a notebook shows of a search, by the content of its ``search.json``: headline, strip, front."""
    found = found_in(document)
    return Html(
        rendered(
            "summary.html",
            headline=search_headline(found),
            strip=strip(found.outcomes(), found.dense.macs, title="The plan, layer by layer"),
            warnings=(),
        )
    )


def found_figures(document: Mapping[str, Any]) -> dict[str, Svg]:
    """The charts of a search as drawings, by name; those of its trials are in the folder, which has the log."""
    return drawings(search_page_charts(SearchFolder(Path(), found_in(document))))


def forecast_html(dense: Cost, planned: Cost, layers: Sequence[Mapping[str, Any]]) -> Html:
    """What a notebook shows of a forecast; ``layers`` as in ``search.json``."""
    outcomes = tuple(
        PlannedLayer(**{name: layer[name] for name in _PLANNED if name in layer}).outcome() for layer in layers
    )
    cards, rows = _costs(dense, planned)
    open_ = Verdict("open", "Nothing was tried: what the plan does to the accuracy, search and compress tell.")
    headline = {"cards": cards, "verdicts": [open_], "table": Table(("", "dense", "with the plan", "change"), rows)}
    shown = strip(outcomes, dense.macs, title="The plan, layer by layer")
    return Html(rendered("summary.html", headline=headline, strip=shown, warnings=()))


def search_headline(found: Found) -> dict[str, Any]:
    """The first screen: cards, verdicts and the table that says the same."""
    drop = finite(found.plan.drop)
    cards, rows = _costs(found.dense, found.plan)
    lost = (
        "drop before fine-tuning",
        "not a number" if drop is None else f"{drop:.2f} points",
        "on held-out training images" + _of(found),
    )
    return {
        "cards": [lost, *cards],
        "verdicts": _verdicts(found),
        "table": Table(("", "dense", "with the plan", "change"), rows),
    }


def _costs(dense: Cost, planned: Cost) -> tuple[list[tuple[str, str, str]], tuple[tuple[str, ...], ...]]:
    """MACs, parameters and bytes as cards, and as rows of a table."""
    cards, rows = [], []
    for label, name in (("MACs", "macs"), ("parameters", "params"), ("bytes in memory", "bytes")):
        before, after = getattr(dense, name), getattr(planned, name)
        cards.append((label, fewer(before, after), f"{before:,} before, {after:,} with the plan"))
        rows.append((label, f"{before:,}", f"{after:,}", fewer(before, after)))
    if dense.latency and planned.latency:
        change = f"{dense.latency / planned.latency:.2f}x faster"
        cards.append(("latency", change, f"{dense.latency:.3g} ms before, {planned.latency:.3g} ms with the plan"))
        rows.append(("milliseconds of a pass", f"{dense.latency:.3g}", f"{planned.latency:.3g}", change))
    return cards, tuple(rows)


def _of(found: Found) -> str:
    held_out = finite(found.dense.held_out)
    return "" if held_out is None else f", of {100 * held_out:.2f} % for the dense network"


def _verdicts(found: Found) -> list[Verdict]:
    kept = on_budget(found.provenance, found.plan)
    said = [kept] if kept is not None else []
    if found.max_drop is not None:
        sentence = (
            f"Open: {points(found.max_drop)} may be lost after fine-tuning. Nothing was carried out yet, and no test "
            "image was read; polyadic compress --plan tells."
        )
        said.append(Verdict("open", sentence))
    elif kept is None:
        said.append(Verdict("open", "No drop and no budget is on record, so there is nothing to hold the plan to."))
    return said


def _layer_table(folder: SearchFolder) -> Table:
    rows = trial_records(folder)
    return Table(
        _LAYER_COLUMNS,
        tuple(
            (
                layer.name,
                what_happened(layer)
                if layer.status == "factorised"
                else {"dense": "stays dense"}.get(layer.status, "not supported"),
                f"{layer.macs_before:,}",
                f"{layer.macs_after:,}",
                _why(layer.name, folder, rows) if layer.status == "factorised" else layer.reason or "",
            )
            for layer in folder.found.outcomes()
        ),
    )


def _why(layer: str, folder: SearchFolder, rows: list[Record]) -> str:
    """What the log knows of a layer that was tried alone; else the strategy that chose."""
    own = [
        (trial, row)
        for trial, row in zip(folder.trials, rows, strict=True)
        if row["scope"] == "layer" and len(trial.plan) == 1 and trial.plan[0].layer == layer
    ]
    if not own:
        return f"chosen by the {folder.found.search} search of whole plans"
    chosen = next(choice for choice in folder.found.plan.layers if choice.layer == layer)
    exact = [row for trial, row in own if trial.plan[0] == chosen and row["drop"] is not None]
    tried = f"{len(own)} trial{'' if len(own) == 1 else 's'} of this layer alone"
    if exact:
        bound = exact[-1]["threshold"]
        allowed = "" if bound is None else f", {bound:.2g} allowed"
        return f"alone it loses {exact[-1]['drop']:.2f} points{allowed}; {tried}"
    return f"{tried}; then moved to a higher rank, so that the whole network is within reach of fine-tuning"


def _front_table(found: Found) -> Table:
    rows = [*found.front, *([] if found.plan in found.front else [found.plan])]
    return Table(
        _FRONT_COLUMNS,
        tuple(_front_row(row, found) for row in rows),
        tuple(at for at, row in enumerate(rows) if row.layers == found.plan.layers),
    )


def _front_row(row: TriedNetwork, found: Found) -> tuple[str, ...]:
    drop, loss = finite(row.drop), finite(row.loss)
    return (
        f"{row.macs:,}",
        f"{100 * row.macs / max(found.dense.macs, 1):.1f}",
        f"{row.params:,}",
        "not a number" if drop is None else f"{drop:.2f}",
        "" if loss is None else f"{loss:.4f}",
        plan_in_words(row.layers) if len(row.layers) <= 3 else f"{len(row.layers)} layers",
    )


def _notes(folder: SearchFolder) -> list[str]:
    said = []
    if not folder.trials:
        said.append(
            "The folder holds no log of the trials, so their history is not shown; those of a shared study lie there."
        )
    if folder.damaged:
        said.append(f"Lines of the log that could not be read and are left out: {folder.damaged}.")
    if folder.trials and len(folder.trials) != folder.found.trials:
        said.append(f"The log holds {len(folder.trials)} trials; the search ended with {folder.found.trials}.")
    broken = sum(trial.drop is None or not math.isfinite(trial.drop) for trial in folder.trials)
    if broken:
        said.append(f"Trials whose score was not a number, which are not drawn: {broken}.")
    return said
