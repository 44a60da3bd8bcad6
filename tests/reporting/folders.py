"""Folders of results, written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from summaries import summary as hand_made

from polyadic.schema import Summary

EPOCHS = [
    {"epoch": 1, "loss": 2.5, "score": 0.7, "score_loss": 1.0, "learning_rate": 0.1, "seconds": 1, "diverged": False},
    {"epoch": 2, "loss": None, "score": None, "score_loss": None, "learning_rate": 0.1, "seconds": 1, "diverged": True},
    {"epoch": 2, "loss": 1.5, "score": 0.8, "score_loss": 0.9, "learning_rate": 0.05, "seconds": 1, "diverged": False},
]
PROVENANCE: dict[str, Any] = {
    "command": "polyadic compress net.py:build --data digits --max-drop 1 --out 'my folder'",
    "seed": 0,
    "search": "Bisection(resolution=0.04)",
    "search_stop": "the search had nothing left to try",
    "macs_convention": "1 MAC = one multiply-accumulate",
    "finetuning_stop": "all epochs were run",
    "finetuning": EPOCHS,
}


def whole(number: int, macs: int, drop: float, ranks: tuple[int, int] = (1, 1), **more: Any) -> dict[str, Any]:
    """A line of the log: both layers replaced, ``macs`` in the two of them together."""
    plan = [
        {"layer": "conv1", "format": "cp-epc", "rank": ranks[0]},
        {"layer": "conv2", "format": "tucker2", "rank": [3, ranks[1]]},
    ]
    return {"trial": number, "plan": plan, "drop": drop, "final": True, "joint": True, "macs": macs, **more}


def alone(number: int, macs: int, drop: float, rank: int) -> dict[str, Any]:
    """A line of the log: one layer replaced."""
    plan = [{"layer": "conv1", "format": "cp-epc", "rank": rank}]
    known = {"trial": number, "plan": plan, "drop": drop, "final": True, "joint": False}
    return {**known, "macs": macs, "threshold": 0.5, "seconds": 2.0}


TRIALS = [
    alone(1, 1000, 4.0, 2),
    alone(2, 3000, 0.25, 8),
    whole(3, 4000, 9.0, (2, 2)),
    whole(4, 6000, 9.5, (4, 2)),
    whole(5, 7000, 3.0, (8, 4)),
]


def folder(
    path: Path,
    summary: Summary | None = None,
    trials: Iterable[dict[str, Any]] | None = TRIALS,
    model: str | None = "net.py:build",
) -> Path:
    """A folder as ``compress`` leaves it, without weights and model card."""
    summary = summary or hand_made(provenance=PROVENANCE)
    path.mkdir(parents=True, exist_ok=True)
    (path / "result.json").write_text(json.dumps(summary.to_json()), encoding="utf-8")
    plan = {"version": 1, "origin": {"model": model}, "layers": summary.plan.to_json()}
    (path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    if trials is not None:
        lines = [{"run": "0"}, *trials]
        (path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
