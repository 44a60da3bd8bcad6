"""What a compression did, as plain data: the content of ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from polyadic.schema.cost import Cost
from polyadic.schema.json_object import VERSION, JsonObject
from polyadic.schema.notebook import NotebookResult
from polyadic.schema.plan import Plan
from polyadic.schema.score_words import ScoreWords
from polyadic.storage import as_plain

OWN_LOOP = "trained in a loop of the user's own"
"""How fine-tuning ended where the user has done it, in the provenance under ``finetuning_stop``."""


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
class Summary(NotebookResult):
    """Everything about a compression that is not a tensor.

    Attributes:
        dense: cost of the network that came in.
        compressed: cost of the network that went out.
        dense_score: score of the former on the test images.
        compressed_score: score of the latter on the test images, read once, at the end.
        score_before_finetuning: the same for the network as it came from the decomposition.
        score_name: what the score is, such as "top-1 accuracy".
        max_drop: the drop that was allowed, in the unit of ``drop``; None where only a budget was given.
        drop_interval: 95 % interval of the drop in that unit, paired sample by sample; None where there is none.
        held_out: scores on the held-out training images on which everything was chosen.
        plan: layer, format, rank.
        layers: what happened to each layer.
        seconds: duration of each part of the run.
        provenance: versions, seeds, options, data hashes, machine.
        warnings: what a reader must know before relying on the result.
        score_is_fraction: whether the score is an accuracy or another fraction, shown in percent; else any number.
        judged_on: what the scores were taken on that chose nothing, such as "test images"; None where there is none.
        score_unit: of a score that is no fraction, such as "dB".
    """

    file: ClassVar[str] = "result.json"

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
    score_is_fraction: bool = True
    judged_on: str | None = "test images"
    score_unit: str = ""

    @property
    def words(self) -> ScoreWords:
        """For the scores."""
        return ScoreWords(self.score_name, self.score_is_fraction, self.score_unit, self.judged_on)

    @property
    def is_of_own_loop(self) -> bool:
        """Whether it was trained by its user, so that nothing is known of the training but the score after it."""
        return self.provenance.get("finetuning_stop") == OWN_LOOP

    @property
    def drop(self) -> float:
        """What was lost in the end: points of an accuracy or another fraction, else in the unit of the score."""
        return self.words.drop(self.dense_score, self.compressed_score)

    @property
    def mac_reduction(self) -> float:
        """How many times fewer multiply-accumulates."""
        return self.dense.macs / max(self.compressed.macs, 1)

    def to_json(self) -> dict[str, Any]:
        """The content of ``result.json``: drops of a fraction are points, hundredths; null for what is not finite.

        The plan is not in it: it has a file of its own, ``plan.json``.
        """
        document = {
            "version": VERSION,
            "dense": {**asdict(self.dense), "score": self.dense_score},
            "compressed": {
                **asdict(self.compressed),
                "score": self.compressed_score,
                "score_before_finetuning": self.score_before_finetuning,
            },
            "score_name": self.score_name,
            "score_is_fraction": self.score_is_fraction,
            "judged_on": self.judged_on,
            "score_unit": self.score_unit,
            "max_drop": self.max_drop,
            "drop": self.drop,
            "drop_interval": self.drop_interval,
            "mac_reduction": self.mac_reduction,
            "held_out": self.held_out,
            "layers": [asdict(layer) for layer in self.layers],
            "warnings": list(self.warnings),
            "seconds": self.seconds,
            "provenance": self.provenance,
        }
        plain: dict[str, Any] = as_plain(document)
        return plain

    @staticmethod
    def from_json(data: object, plan: Plan, where: Path | str = file) -> Summary:
        """The inverse of :meth:`to_json`, for the ``plan`` beside it; ``where`` is named where something is wrong.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, where, "copy it again, or compress again")
        dense, compressed = read.nested("dense"), read.nested("compressed")
        low, high = read.read("drop_interval", tuple[float | None, float | None] | None, None) or (None, None)
        provenance: dict[str, Any] = read.read("provenance", dict[str, Any], {})
        accuracy = "score_function" not in provenance  # files of version 0.1 say no more about their scores
        max_drop = read.read("max_drop", float | None, None)
        if max_drop is not None and not accuracy and read.read("score_is_fraction", bool | None, None) is None:
            max_drop /= 100.0  # those files gave hundredths of any score
        held_out: Mapping[str, float | None] = read.read("held_out", dict[str, float | None], {})
        return Summary(
            dense=dense.whole(Cost),
            compressed=compressed.whole(Cost),
            dense_score=dense.number("score"),
            compressed_score=compressed.number("score"),
            score_before_finetuning=compressed.number("score_before_finetuning"),
            score_name=read.read("score_name", str),
            max_drop=max_drop,
            drop_interval=None if low is None or high is None else (low, high),
            held_out={name: math.nan if score is None else score for name, score in held_out.items()},
            plan=plan,
            layers=read.read("layers", tuple[LayerOutcome, ...]),
            seconds=read.read("seconds", dict[str, float], {}),
            provenance=provenance,
            warnings=read.read("warnings", tuple[str, ...], ()),
            score_is_fraction=read.read("score_is_fraction", bool, accuracy),
            judged_on=read.read("judged_on", str | None, "test images" if accuracy else None),
            score_unit=read.read("score_unit", str, ""),
        )
