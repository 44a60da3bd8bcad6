"""What a compression did, as plain data: the content of ``result.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from polyadic.schema.cost import Cost
from polyadic.schema.plan import Plan


def points(before: float, after: float) -> float:
    """What was lost from one score to another, a point being 0.01; rounded so that 0.5 is not 0.5000000000000004."""
    return round(100.0 * (before - after), 9)


@dataclass(frozen=True)
class LayerOutcome:
    """What happened to one layer.

    Attributes:
        name: dotted path in the model.
        status: "factorised", "dense" (a candidate that the search left alone) or "unsupported".
        reason: why it is not factorised; for a factorised one, why the decomposition stopped.
        format: name of the format.
        rank: rank or ranks.
        relative_error: ``||K - K^|| / ||K||`` of the decomposition, before fine-tuning; K is the kernel that was
            decomposed.
        weighted_error: the same in the norm of the layer's inputs, if that is the norm it was decomposed in.
        sensitivity: true sensitivity of the factors of ``K / ||K||`` (CP formats only).
        intensity_ratio: largest over smallest intensity (CP formats only).
        latency_before: milliseconds of the dense layer within a pass, where an engine was named and has timed it.
        latency_after: the same of what replaced it.
        latency_measured: whether the latter was measured; it was interpolated otherwise.
        macs_before: multiply-accumulates of the dense layer for one sample.
        macs_after: the same of what replaced it.
    """

    name: str
    status: Literal["factorised", "dense", "unsupported"]
    reason: str | None
    macs_before: int
    macs_after: int
    format: str | None = None
    rank: int | list[int] | None = None
    relative_error: float | None = None
    weighted_error: float | None = None
    sensitivity: float | None = None
    intensity_ratio: float | None = None
    latency_before: float | None = None
    latency_after: float | None = None
    latency_measured: bool | None = None


@dataclass(frozen=True)
class Summary:
    """Everything about a compression that is not a tensor.

    Attributes:
        dense: cost of the network that came in.
        compressed: cost of the network that went out.
        dense_score: score of the former on the test images.
        compressed_score: score of the latter on the test images, read once, at the end.
        score_before_finetuning: the same for the network as it came from the decomposition.
        score_name: what the score is, such as "top-1 accuracy".
        max_drop: the drop that was allowed, in points; None where only a budget was given.
        drop_interval: 95 % interval of the drop on the test images in points, paired image by image.
        held_out: scores on the held-out training images on which everything was chosen.
        plan: layer, format, rank.
        layers: what happened to each layer.
        seconds: duration of each part of the run.
        provenance: versions, seeds, options, data hashes, machine.
        warnings: what a reader must know before relying on the result.
    """

    dense: Cost
    compressed: Cost
    dense_score: float
    compressed_score: float
    score_before_finetuning: float
    score_name: str
    max_drop: float | None
    drop_interval: tuple[float, float] | None
    held_out: dict[str, float]
    plan: Plan
    layers: tuple[LayerOutcome, ...]
    seconds: dict[str, float]
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """Points of score lost on the test images."""
        return points(self.dense_score, self.compressed_score)

    @property
    def mac_reduction(self) -> float:
        """How many times fewer multiply-accumulates."""
        return self.dense.macs / max(self.compressed.macs, 1)
