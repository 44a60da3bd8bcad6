"""One plan that a search has tried, and what it lost: a line of ``trials.jsonl``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from polyadic.schema.cost import Cost
from polyadic.schema.json_object import JsonObject
from polyadic.schema.plan import Plan


@dataclass(frozen=True)
class Trial:
    """One plan that was tried.

    Attributes:
        plan: what was replaced.
        drop: points of score lost against the dense network.
        final: whether fine-tuning was tried; it is not where the drop was small enough without.
        joint: whether the plan was tried as it is, untuned; such trials do not tell what fine-tuning a single layer
            would reach.
        divergence: mean Kullback-Leibler divergence of the outputs from the dense network's, in nats, where it was
            measured: it tells plans apart that lose equally many images. On disk it is called ``loss``.
    """

    plan: Plan
    drop: float
    final: bool = True
    joint: bool = False
    divergence: float | None = None

    @property
    def loss(self) -> float:
        """What to compare untuned plans by: the divergence, or the drop without one; infinite if not a number."""
        value = self.drop if self.divergence is None else self.divergence
        return value if math.isfinite(value) else math.inf

    def verdict(self, threshold: float) -> bool | None:
        """Whether the plan stays within ``threshold``; None where fine-tuning, not yet done, could still decide."""
        if self.drop <= threshold:
            return True
        return False if self.final else None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        known = {"plan": self.plan.to_json(), "drop": self.drop, "final": self.final, "joint": self.joint}
        return known if self.divergence is None else {**known, "loss": self.divergence}

    @staticmethod
    def from_json(data: object) -> Trial:
        """The inverse of :meth:`to_json`; whatever else a line of the log says is ignored.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, "a trial", "remove it and search again")
        return Trial(
            plan=read.parse("plan", Plan.from_json),
            drop=read.number("drop"),
            final=read.read("final", bool),
            joint=read.read("joint", bool),
            divergence=read.read("loss", float | None, None),
        )


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One line of ``trials.jsonl``: a trial, and what was written down beside it as far as pages want it.

    Attributes:
        number: of the trial, from 1; ``trial`` on disk.
        trial: what was tried, and what it lost; NaN where the score was no number.
        macs: of all layers that the plan replaces, together.
        cost: of the whole network with the plan.
        threshold: points that a single layer might lose.
        seconds: how long the trial took.
    """

    file: ClassVar[str] = "trials.jsonl"

    number: int
    trial: Trial
    macs: int | None = None
    cost: Cost | None = None
    threshold: float | None = None
    seconds: float | None = None

    @staticmethod
    def from_json(data: object) -> TrialRecord:
        """Read a line of the log.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, "a trial", "remove it and search again")
        return TrialRecord(
            number=read.read("trial", int),
            trial=Trial.from_json(read),
            macs=read.read("macs", int | None, None),
            cost=read.read("cost", Cost | None, None),
            threshold=read.read("threshold", float | None, None),
            seconds=read.read("seconds", float | None, None),
        )
