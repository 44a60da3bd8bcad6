"""A result as rows: tidy ones with numbers for data frames, and rows of text for the terminal and the model card.

Tidy rows are one dictionary per observation, with the same keys in each.

``layer_records(summary).to_frame()`` is a data frame, where pandas is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from polyadic.reporting.chart import finite, number_text
from polyadic.reporting.folder import Folder
from polyadic.reporting.headline import TextRows
from polyadic.reporting.layer_charts import rank_text
from polyadic.schema import (
    Cost,
    CountedOperation,
    LayerOutcome,
    LayerSite,
    MacCount,
    Plan,
    Rows,
    SearchResult,
    Summary,
    TrialRecord,
    pareto_front,
    plain_rank,
)

Record = dict[str, Any]

LAYER_COLUMNS = ("layer", "what happened", "rank", "error", "sensitivity", "MACs before", "after")
SITE_COLUMNS = ("layer", "kind", "weight", "params", "MACs", "can be factorised as", "if not, why")

_LAYER_FIGURES = (
    *("status", "format", "rank", "relative_error", "weighted_error"),
    *("sensitivity", "intensity_ratio", "macs_before", "macs_after"),
)
_EPOCH_KEYS = ("epoch", "loss", "score", "score_loss", "learning_rate", "seconds", "diverged")


def network_records(summary: Summary) -> Rows:
    """One row for each stage of the network: dense, before fine-tuning, compressed. Scores are fractions."""
    return Rows(
        [
            _network("dense", summary.dense_score, summary.dense),
            _network("before fine-tuning", summary.score_before_finetuning, summary.compressed),
            _network("compressed", summary.compressed_score, summary.compressed),
        ]
    )


def layer_records(summary: Summary) -> Rows:
    """One row per layer, in the order of the network; None for what does not apply."""
    return Rows(
        {
            "layer": layer.name,
            **{column: getattr(layer, column) for column in _LAYER_FIGURES},
            "why": layer.reason or "",
        }
        for layer in summary.layers
    )


def trial_records(folder: Folder[Summary] | Folder[SearchResult]) -> Rows:
    """One row per trial of the search, in the order of the log.

    ``scope`` is "layer" where one layer was replaced and "network" where a whole plan was. ``drop`` is in the unit of
    drops, points of an accuracy, on the samples that chose; ``loss`` the divergence, in nats for images with labels.
    ``macs`` are those of the whole network, None where the log does not tell. ``front`` says whether no other whole
    plan is both cheaper and better (by ``loss`` where every one has it, else by ``drop``).
    """
    several = any(len(record.trial.plan.choices) > 1 for record in folder.trials)
    rows = [_trial(record, folder.result, several) for record in folder.trials]
    best = _front(rows)
    return Rows({**row, "front": row["trial"] in best} for row in rows)


def epoch_records(summary: Summary) -> Rows:
    """One row per epoch of the fine-tuning of the whole network; none where there was no fine-tuning."""
    epochs = summary.provenance.get("finetuning")
    known = [epoch for epoch in epochs if isinstance(epoch, dict)] if isinstance(epochs, list) else []
    return Rows({key: epoch.get(key) for key in _EPOCH_KEYS} for epoch in known)


def plan_in_words(plan: Plan) -> str:
    """Every choice as layer, format, rank."""
    return "; ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in plan.choices)


def loss_measure(rows: Iterable[Record]) -> str:
    """By what whole plans can be compared: "loss" where all of them have it, else "drop"."""
    wholes = [row for row in rows if row["scope"] == "network"]
    return "loss" if wholes and all(finite(row["loss"]) is not None for row in wholes) else "drop"


def _network(name: str, score: float, cost: Cost) -> Record:
    return {"network": name, "score": score, "macs": cost.macs, "params": cost.params, "bytes": cost.bytes}


def _trial(record: TrialRecord, result: Summary | SearchResult, several: bool) -> Record:
    plan, trial = record.trial.plan, record.trial
    whole = trial.joint and (len(plan.choices) > 1 or not several)
    return {
        "trial": record.number,
        "scope": "network" if whole else "layer",
        "layers": len(plan.choices),
        "plan": plan_in_words(plan),
        "drop": finite(trial.drop),
        "loss": finite(trial.divergence),
        "macs": _network_macs(record, result),
        "threshold": finite(record.threshold),
        "seconds": finite(record.seconds),
        "chosen": whole and set(plan.choices) == set(result.plan.choices),
    }


def _network_macs(record: TrialRecord, result: Summary | SearchResult) -> int | None:
    """MACs of the whole network with the plan of a trial, None if the log tells too little."""
    if record.cost is not None:
        return record.cost.macs
    before = {layer.name: layer.macs_before for layer in result.layers}
    layers = [choice.layer for choice in record.trial.plan.choices]
    if record.macs is None or any(layer not in before for layer in layers):
        return None
    return result.dense.macs - sum(before[layer] for layer in layers) + record.macs


def _front(rows: list[Record]) -> set[int]:
    """Numbers of the trials that no other beats in MACs and loss; of several trials of a plan the last counts."""
    measure = loss_measure(rows)
    last = {row["plan"]: row for row in rows if row["scope"] == "network"}
    priced = [row for row in last.values() if row["macs"] is not None and row[measure] is not None]
    return {row["trial"] for row in pareto_front(priced, itemgetter("macs"), itemgetter(measure))}


def layer_rows(summary: Summary) -> TextRows:
    """One row per layer, under :data:`LAYER_COLUMNS`."""
    return [_layer_row(layer) for layer in summary.layers]


def site_rows(
    sites: tuple[LayerSite, ...], formats: dict[str, list[str]], reasons: dict[str, str | None], count: MacCount
) -> TextRows:
    """One row per layer that ``inspect`` found, with the formats that serve it or the reason why none does."""
    return [
        (
            site.name,
            site.kind,
            " x ".join(str(n) for n in site.spec.weight_shape) if site.spec else "",
            f"{site.params:,}",
            f"{count.macs_in(site.name):,}",
            ", ".join(formats.get(site.name, [])),
            reasons.get(site.name) or "",
        )
        for site in sites
    ]


def function_rows(operations: Iterable[CountedOperation]) -> TextRows:
    """One row per function that costs something and belongs to no layer, under :data:`SITE_COLUMNS`."""
    reason = "a function of its inputs: it has no weights"
    return [(operation.name, "function", "", "0", f"{operation.macs:,}", "", reason) for operation in operations]


def _layer_row(layer: LayerOutcome) -> tuple[str, ...]:
    macs = f"{layer.macs_before:,}", f"{layer.macs_after:,}"
    if layer.status != "factorised":
        return layer.name, layer.status + (f": {layer.reason}" if layer.reason else ""), "", "", "", *macs
    minimised = layer.relative_error if layer.weighted_error is None else layer.weighted_error
    error, sensitivity = number_text(minimised, "{:.3f}"), number_text(layer.sensitivity, "{:.0f}")
    return layer.name, str(layer.format), rank_text(layer.rank), error, sensitivity, *macs
