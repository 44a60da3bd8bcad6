"""A folder of a search, read back as plain data: the plan that was found, and nothing that was carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyadic.reporting.documents import checked, read_document
from polyadic.reporting.trial_file import TRIALS, Searched, TrialRecord, read_trials
from polyadic.reporting.verdict import limits_in
from polyadic.schema import Choice, Cost, LayerOutcome, Plan

SEARCH = "search.json"


@dataclass(frozen=True)
class DenseNetwork(Cost):
    """Cost of the dense network, and its score on the held-out images (a fraction)."""

    held_out: float | None = None


@dataclass(frozen=True)
class TriedNetwork(Cost):
    """Cost of the network with a plan, what it lost untuned on the held-out images, and the plan.

    Attributes:
        drop: points of score.
        loss: divergence from the dense network's answers in nats, where it was measured.
        layers: the choices.
    """

    drop: float | None = None
    loss: float | None = None
    layers: tuple[Choice, ...] = field(kw_only=True)


@dataclass(frozen=True)
class PlannedLayer:
    """What the plan does to a layer, and why it leaves it alone where it does."""

    name: str
    macs_before: int
    macs_after: int
    format: str | None
    rank: int | list[int] | None
    reason: str | None
    supported: bool = True

    def outcome(self) -> LayerOutcome:
        """The layer as if the plan were carried out."""
        cost = (self.macs_before, self.macs_after)
        if self.format is not None:
            return LayerOutcome(self.name, "factorised", None, *cost, self.format, self.rank)
        return LayerOutcome(self.name, "dense" if self.supported else "unsupported", self.reason, *cost)


@dataclass(frozen=True)
class Found:
    """The layout of ``search.json``.

    Attributes:
        dense: the network as it came.
        plan: what the search ended with.
        front: the whole plans that no other beats in cost and harm, cheapest first.
        search: name of the strategy.
        stop: why it ended.
        trials: how many there were.
        layers: what the plan does to each.
        seconds: duration of each part.
        max_drop: points that may be lost in the end, None where only a budget was given.
        provenance: versions, seeds, options, data hashes, machine, and the command.
    """

    dense: DenseNetwork
    plan: TriedNetwork
    front: tuple[TriedNetwork, ...]
    search: str
    stop: str
    trials: int
    layers: tuple[PlannedLayer, ...]
    seconds: Mapping[str, float]
    max_drop: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def outcomes(self) -> tuple[LayerOutcome, ...]:
        """The layers as if the plan were carried out, for the same strip."""
        return tuple(layer.outcome() for layer in self.layers)


@dataclass(frozen=True)
class SearchFolder:
    """What a folder says.

    Attributes:
        path: the folder.
        found: the content of ``search.json``.
        trials: in the order of the log; none where there is no log.
        damaged: lines of the log that could not be read.
    """

    path: Path
    found: Found
    trials: tuple[TrialRecord, ...] = ()
    damaged: int = 0

    @property
    def model(self) -> str | None:
        """Text of the dense network, where it is known."""
        return _text(self.found.provenance.get("model"))

    @property
    def searched(self) -> Searched:
        """What its charts are made of."""
        found = self.found
        return Searched(
            self.trials,
            Plan(found.plan.layers),
            found.dense.macs,
            found.plan.macs,
            {layer.name: layer.macs_before for layer in found.layers},
            limits_in(found.provenance),
            "found",
        )


_FOUND = TypeAdapter(Found)


def found_in(document: Mapping[str, Any], where: Path | str = "the document of a search") -> Found:
    """The content of ``search.json``, checked.

    Raises:
        StorageError: a part is missing or damaged.
    """
    return checked(_FOUND, document, where, "search again with --resume")


def read_search(directory: Path | str) -> SearchFolder:
    """Read what ``search`` wrote.

    Raises:
        StorageError: a file is missing, damaged or of another version.
    """
    directory = Path(directory)
    path = directory / SEARCH
    found = found_in(read_document(path), path)
    trials, damaged = read_trials(directory / TRIALS)
    return SearchFolder(directory, found, tuple(trials), damaged)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
