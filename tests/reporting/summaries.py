"""A summary with one layer of every fate, made by hand."""

from __future__ import annotations

from typing import Any

from polyadic.schema import Choice, Cost, LayerOutcome, Plan, Summary

LAYERS = (
    LayerOutcome(
        "conv1",
        "factorised",
        "converged",
        9000,
        3000,
        format="cp-epc",
        rank=8,
        relative_error=0.1234,
        sensitivity=412.7,
    ),
    LayerOutcome("conv2", "factorised", "exact", 8000, 4000, format="tucker2", rank=[3, 4], relative_error=0.5),
    LayerOutcome("conv3", "dense", "every cheaper rank loses more than 1 points", 7000, 7000),
    LayerOutcome("odd|name", "unsupported", "a | in the reason", 0, 0),
)


def summary(**changes: Any) -> Summary:
    """24,000 MACs become 14,000, at a loss of half a point."""
    known: dict[str, Any] = {
        "dense": Cost(params=1000, macs=24_000, bytes=4000),
        "compressed": Cost(params=500, macs=14_000, bytes=2000),
        "dense_score": 0.905,
        "compressed_score": 0.9,
        "score_before_finetuning": 0.6,
        "score_name": "top-1 accuracy",
        "max_drop": 1.0,
        "drop_interval": (-0.25, 1.25),
        "held_out": {"dense": 0.91},
        "plan": Plan((Choice("conv1", "cp-epc", (8,)), Choice("conv2", "tucker2", (3, 4)))),
        "layers": LAYERS,
        "seconds": {"search": 1.5},
        "provenance": {"seed": 0, "macs_convention": "1 MAC = one multiply-accumulate", "finetuning": [{"epoch": 1}]},
        "warnings": (),
    }
    return Summary(**{**known, **changes})
