"""The page of a search: the plan that it found, how it found it, and what else there was to choose from."""

from __future__ import annotations

import math
from collections.abc import Callable

from polyadic.reporting.chart import Chart, StripChart, Table, number_text, table_of, with_content
from polyadic.reporting.folder import Folder
from polyadic.reporting.headline import estimate_headline, search_headline
from polyadic.reporting.layer_charts import strip, what_happened
from polyadic.reporting.loss_words import divergence_label, held_out_words
from polyadic.reporting.page import provenance_rows, render
from polyadic.reporting.records import Record, plan_in_words, trial_records
from polyadic.reporting.run_charts import search_charts
from polyadic.schema import Budget, CostEstimate, LayerEstimate, SearchResult, TriedPlan

_MEASURES = {"macs": "MACs", "params": "parameters", "bytes": "bytes", "latency": "latency"}


def search_html(folder: Folder[SearchResult]) -> str:
    """The page."""
    found = folder.result
    limits = Budget.from_text(str(found.provenance.get("budget") or "")).limits
    return render(
        "search.html",
        title=f"{folder.name}, a plan",
        found=found,
        headline=search_headline(found),
        held_out=held_out_words(found.provenance),
        charts={chart.name: chart for chart in search_page_charts(folder)},
        layers=_layer_table(folder),
        front=_front_table(found),
        measure=_MEASURES[next(iter(limits), "macs")],
        provenance=provenance_rows(found.provenance),
        notes=_notes(folder),
    )


def search_page_charts(folder: Folder[SearchResult]) -> list[Chart]:
    """Every chart that there is something to show in."""
    return with_content([plan_strip(folder.result), *search_charts(folder)])


def plan_piece(found: SearchResult | CostEstimate) -> str:
    """What a notebook shows of a plan that was not carried out: the headline, and its layers as a strip."""
    headline = search_headline(found) if isinstance(found, SearchResult) else estimate_headline(found)
    warnings = found.warnings if isinstance(found, SearchResult) else ()
    return render("summary.html", headline=headline, strip=plan_strip(found), warnings=warnings)


def plan_strip(found: SearchResult | CostEstimate) -> StripChart | None:
    """The layers as if the plan were carried out."""
    outcomes = [layer.outcome() for layer in found.layers]
    return strip(outcomes, found.dense.macs, title="The plan, layer by layer")


def _layer_table(folder: Folder[SearchResult]) -> Table:
    rows = trial_records(folder)

    def fate(layer: LayerEstimate) -> str:
        if layer.format is not None:
            return what_happened(layer.outcome())
        return "stays dense" if layer.supported else "not supported"

    columns: dict[str, Callable[[LayerEstimate], str]] = {
        "layer": lambda layer: layer.name,
        "what the plan does": fate,
        "MACs before": lambda layer: f"{layer.macs_before:,}",
        "after": lambda layer: f"{layer.macs_after:,}",
        "why": lambda layer: _why(layer.name, folder, rows) if layer.format is not None else layer.reason or "",
    }
    return table_of(folder.result.layers, columns)


def _why(layer: str, folder: Folder[SearchResult], rows: list[Record]) -> str:
    """What the log knows of a layer that was tried alone; else the strategy that chose."""
    own = [
        (record.trial.plan.of(layer), row)
        for record, row in zip(folder.trials, rows, strict=True)
        if row["scope"] == "layer" and row["layers"] == 1 and record.trial.plan.of(layer) is not None
    ]
    if not own:
        return f"chosen by the {folder.result.search} search of whole plans"
    chosen = folder.result.plan.of(layer)
    exact = [row for choice, row in own if choice == chosen and row["drop"] is not None]
    tried = f"{len(own)} trial{'' if len(own) == 1 else 's'} of this layer alone"
    if exact:
        allowed = number_text(exact[-1]["threshold"], ", {:.2g} allowed")
        return f"alone it loses {folder.result.words.amount(exact[-1]['drop'])}{allowed}; {tried}"
    return f"{tried}; then moved to a higher rank, so that the whole network is within reach of fine-tuning"


def _front_table(found: SearchResult) -> Table:
    words = found.words
    columns: dict[str, Callable[[TriedPlan], str]] = {
        "MACs": lambda tried: f"{tried.cost.macs:,}",
        "% of dense": lambda tried: f"{100 * tried.cost.macs / max(found.dense.macs, 1):.1f}",
        "parameters": lambda tried: f"{tried.cost.params:,}",
        words.lost_label("drop"): lambda tried: words.lost(tried.drop) if math.isfinite(tried.drop) else "not a number",
        divergence_label(found.provenance): lambda tried: number_text(tried.divergence, "{:.4f}"),
        "plan": _plan_in_short,
    }
    return table_of(found.plans_to_choose_from, columns, lambda tried: tried.plan == found.plan)


def _plan_in_short(tried: TriedPlan) -> str:
    layers = len(tried.plan.choices)
    return plan_in_words(tried.plan) if layers <= 3 else f"{layers} layers"


def _notes(folder: Folder[SearchResult]) -> list[str]:
    said, trials = [], folder.trials
    if not trials:
        said.append(
            "The folder holds no log of the trials, so their history is not shown; those of a shared study lie there."
        )
    if folder.damaged:
        said.append(f"Lines of the log that could not be read and are left out: {folder.damaged}.")
    if trials and len(trials) != folder.result.trials:
        said.append(f"The log holds {len(trials)} trials; the search ended with {folder.result.trials}.")
    broken = sum(not math.isfinite(record.trial.drop) for record in trials)
    if broken:
        said.append(f"Trials whose score was not a number, which are not drawn: {broken}.")
    return said
