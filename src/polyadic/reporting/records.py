"""A result as tidy rows: one dictionary per observation, the same keys in each, numbers as numbers.

``layer_records(summary).to_frame()`` is a data frame, where pandas is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from polyadic.reporting.result_folder import ResultFolder
from polyadic.reporting.search_folder import SearchFolder
from polyadic.reporting.trial_file import Searched, TrialRecord
from polyadic.schema import Choice, Plan, Rows, Summary, plain_rank

Record = dict[str, Any]

_EPOCH_KEYS = ("epoch", "loss", "score", "score_loss", "learning_rate", "seconds", "diverged")


def network_records(summary: Summary) -> Rows:
    """One row for each stage of the network: dense, before fine-tuning, compressed. Scores are fractions."""
    dense, small = summary.dense, summary.compressed
    return Rows(
        [
            _network("dense", summary.dense_score, dense.macs, dense.params, dense.bytes),
            _network("before fine-tuning", summary.score_before_finetuning, small.macs, small.params, small.bytes),
            _network("compressed", summary.compressed_score, small.macs, small.params, small.bytes),
        ]
    )


def layer_records(summary: Summary) -> Rows:
    """One row per layer, in the order of the network; None for what does not apply."""
    return Rows(
        {
            "layer": layer.name,
            "status": layer.status,
            "format": layer.format,
            "rank": layer.rank,
            "relative_error": layer.relative_error,
            "weighted_error": layer.weighted_error,
            "sensitivity": layer.sensitivity,
            "intensity_ratio": layer.intensity_ratio,
            "macs_before": layer.macs_before,
            "macs_after": layer.macs_after,
            "why": layer.reason or "",
        }
        for layer in summary.layers
    )


def trial_records(folder: ResultFolder | SearchFolder) -> Rows:
    """One row per trial of the search, in the order of the log.

    ``scope`` is "layer" where one layer was replaced and "network" where a whole plan was. ``drop`` is in points on the
    held-out images. ``macs`` are those of the whole network, None where the log does not tell. ``front`` says whether
    no other whole plan is both cheaper and less harmful (by ``loss`` where every one has it, else by ``drop``).
    """
    searched = folder.searched
    several = any(len(trial.plan) > 1 for trial in searched.trials)
    rows = [_trial(trial, searched, several) for trial in searched.trials]
    best = _front(rows)
    return Rows({**row, "front": row["trial"] in best} for row in rows)


def epoch_records(summary: Summary) -> Rows:
    """One row per epoch of the fine-tuning of the whole network; none where there was no fine-tuning."""
    epochs = summary.provenance.get("finetuning")
    known = [epoch for epoch in epochs if isinstance(epoch, dict)] if isinstance(epochs, list) else []
    return Rows({key: epoch.get(key) for key in _EPOCH_KEYS} for epoch in known)


def plan_in_words(choices: Iterable[Choice]) -> str:
    """Every choice as layer, format, rank."""
    return "; ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in choices)


def harm_measure(rows: Iterable[Record]) -> str:
    """By what whole plans can be compared: "loss" where all of them have it, else "drop"."""
    wholes = [row for row in rows if row["scope"] == "network"]
    return "loss" if wholes and all(finite(row["loss"]) is not None for row in wholes) else "drop"


def finite(value: Any) -> float | None:
    """A number that can be drawn, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _network(name: str, score: float, macs: int, params: int, size: int) -> Record:
    return {"network": name, "score": score, "macs": macs, "params": params, "bytes": size}


def _trial(trial: TrialRecord, searched: Searched, several: bool) -> Record:
    whole = trial.joint and (len(trial.plan) > 1 or not several)
    return {
        "trial": trial.trial,
        "scope": "network" if whole else "layer",
        "layers": len(trial.plan),
        "plan": plan_in_words(trial.plan),
        "drop": finite(trial.drop),
        "loss": finite(trial.loss),
        "macs": _network_macs(trial, searched),
        "threshold": finite(trial.threshold),
        "seconds": finite(trial.seconds),
        "chosen": whole and _same(trial.plan, searched.plan),
    }


def _network_macs(trial: TrialRecord, searched: Searched) -> int | None:
    """MACs of the whole network with the plan of a trial, None if the log tells too little."""
    if trial.cost is not None:
        return trial.cost.macs
    before = searched.macs_before
    if trial.macs is None or any(choice.layer not in before for choice in trial.plan):
        return None
    return searched.dense_macs - sum(before[choice.layer] for choice in trial.plan) + trial.macs


def _same(choices: tuple[Choice, ...], plan: Plan) -> bool:
    return set(choices) == set(plan.choices)


def _front(rows: list[Record]) -> set[int]:
    """Numbers of the trials that no other beats in MACs and harm; of several trials of a plan the last counts."""
    measure = harm_measure(rows)
    last = {row["plan"]: row for row in rows if row["scope"] == "network"}
    priced = [row for row in last.values() if row["macs"] is not None and row[measure] is not None]
    best, least = set(), math.inf
    for row in sorted(priced, key=lambda row: (row["macs"], row[measure])):
        if row[measure] < least:
            least = row[measure]
            best.add(row["trial"])
    return best
