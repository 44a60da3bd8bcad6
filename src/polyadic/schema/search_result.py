"""What a search found and what a plan would cost, before anything is carried out: the content of ``search.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from polyadic.schema.budget import format_cost
from polyadic.schema.cost import Cost
from polyadic.schema.json_object import VERSION, JsonObject
from polyadic.schema.notebook import NotebookResult
from polyadic.schema.plan import Plan
from polyadic.schema.result import LayerOutcome
from polyadic.schema.score_words import ScoreWords
from polyadic.storage import as_plain

Value = TypeVar("Value")


@dataclass(frozen=True)
class LatencyResult:
    """A plan on the engine, in milliseconds of a pass.

    Attributes:
        plan: layer, format, rank; empty where nothing was faster. Of several rounds it is that of the last one.
        dense: of the dense network, as the budget knows it.
        predicted: of the plan, from the times of its blocks.
        measured: of the whole network with the plan, scaled by what the dense one took beside it.
        noise: of ``measured``.
        corrections: how often a plan was concluded anew because it was too slow, or faster than it had to be.
        put_back: layers that are again what they were before, dense in the first round, because the whole was not
            faster.
        warnings: what was asked for and not reached.
    """

    plan: Plan
    dense: float
    predicted: float
    measured: float
    noise: float
    corrections: int = 0
    put_back: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As people read it."""
        dense, measured, predicted = (
            format_cost("latency", time) for time in (self.dense, self.measured, self.predicted)
        )
        return (
            f"{dense} to {measured} a pass ({self.dense / self.measured:.2f}x faster), timed as a whole; the sum of "
            f"its blocks had predicted {predicted}"
        )

    def to_json(self) -> dict[str, Any]:
        """All but the plan and the warnings, which the result has that this one belongs to."""
        return {
            "dense_ms": self.dense,
            "predicted_ms": self.predicted,
            "measured_ms": self.measured,
            "noise_ms": self.noise,
            "corrections": self.corrections,
            "put_back": list(self.put_back),
        }

    @staticmethod
    def from_json(data: object, plan: Plan) -> LatencyResult:
        """The inverse of :meth:`to_json`, for the ``plan`` that was timed.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, "a result of latency")
        return LatencyResult(
            plan,
            read.number("dense_ms"),
            read.number("predicted_ms"),
            read.number("measured_ms"),
            read.number("noise_ms"),
            read.read("corrections", int, 0),
            read.read("put_back", tuple[str, ...], ()),
        )


@dataclass(frozen=True)
class TriedPlan:
    """A plan for the whole network as it was tried: untuned.

    Attributes:
        plan: layer, format, rank.
        cost: of the network, from integers alone.
        drop: what is lost on the held-out samples, points of a fraction; NaN where the score was no number.
        divergence: mean divergence from the dense network's answers in nats, where it was measured. On disk it is
            called ``loss``.
    """

    plan: Plan
    cost: Cost
    drop: float
    divergence: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain data: the costs, ``drop``, ``loss``, and the plan as ``layers``."""
        return {**asdict(self.cost), "drop": self.drop, "loss": self.divergence, "layers": self.plan.to_json()}

    @staticmethod
    def from_json(data: object) -> TriedPlan:
        """The inverse of :meth:`to_json`.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, "a plan that was tried")
        return TriedPlan(
            plan=read.parse("layers", Plan.from_json),
            cost=read.whole(Cost),
            drop=read.number("drop", None),
            divergence=read.read("loss", float | None, None),
        )


@dataclass(frozen=True)
class LayerEstimate:
    """What a plan does to one layer, and why it leaves it alone where it does.

    Attributes:
        name: dotted path in the model.
        macs_before: multiply-accumulates of the dense layer for one sample.
        macs_after: the same of what would replace it.
        format: name of the format; None for a layer that stays dense.
        rank: rank or ranks.
        reason: why it stays dense.
        supported: whether any of the formats could have served it.
        latency_before: milliseconds of the dense layer within a pass, where an engine was named.
        latency_after: the same of what would replace it.
        latency_measured: whether the latter was measured; it was interpolated otherwise.
    """

    name: str
    macs_before: int
    macs_after: int
    format: str | None = None
    rank: int | list[int] | None = None
    reason: str | None = None
    supported: bool = True
    latency_before: float | None = None
    latency_after: float | None = None
    latency_measured: bool | None = None

    def outcome(self) -> LayerOutcome:
        """The layer as if the plan were carried out."""
        if self.format is not None:
            return LayerOutcome(
                self.name, "factorised", None, self.macs_before, self.macs_after, self.format, self.rank
            )
        status: Literal["dense", "unsupported"] = "dense" if self.supported else "unsupported"
        return LayerOutcome(self.name, status, self.reason, self.macs_before, self.macs_after)


@dataclass(frozen=True)
class CostEstimate(NotebookResult):
    """What a network would cost with a plan; nothing was tried.

    Attributes:
        plan: layer, format, rank.
        dense: cost of the dense network.
        cost: of the compressed one.
        layers: what the plan does to each.
        speed: of the plan as a whole on the engine, where one was named.
    """

    plan: Plan
    dense: Cost
    cost: Cost
    layers: tuple[LayerEstimate, ...]
    speed: LatencyResult | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "dense": asdict(self.dense),
            "planned": asdict(self.cost),
            "plan": self.plan.to_json(),
            "layers": [asdict(layer) for layer in self.layers],
            "speed": None if self.speed is None else self.speed.to_json(),
        }

    @staticmethod
    def from_json(data: object) -> CostEstimate:
        """The inverse of :meth:`to_json`.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, "an estimate of costs")
        plan = read.parse("plan", Plan.from_json)
        return CostEstimate(
            plan=plan,
            dense=read.read("dense", Cost),
            cost=read.read("planned", Cost),
            layers=read.read("layers", tuple[LayerEstimate, ...]),
            speed=LatencyResult.from_json(read.nested("speed"), plan) if read.data.get("speed") else None,
        )


@dataclass(frozen=True)
class SearchResult(NotebookResult):
    """What a search found, before anything is carried out.

    Attributes:
        tried: the plan; its cost, and what it loses before fine-tuning.
        dense: cost of the dense network.
        dense_score: its score on the held-out images; NaN where it is not known.
        search: name of the strategy.
        stop: why the search ended.
        trials: how many there were.
        front: the plans of the whole network that were tried and that none beats in cost and loss, cheapest first.
        seconds: duration of each part.
        max_drop: what the network may lose in the end, in the unit of drops; None where only a budget was given.
        layers: what the plan does to each layer, and why it leaves alone what it does.
        provenance: versions, seeds, options, data hashes, machine.
        speed: of the plan as a whole on the engine, where one was named.
        warnings: what a reader must know before relying on the plan.
        score_name: what the score is.
        score_is_fraction: whether it is an accuracy or another fraction, whose drops are points; else drops have the
            score's unit.
        score_unit: of a score that is no fraction, such as "dB".
    """

    file: ClassVar[str] = "search.json"

    tried: TriedPlan
    dense: Cost
    dense_score: float
    search: str
    stop: str
    trials: int
    front: tuple[TriedPlan, ...]
    seconds: Mapping[str, float]
    max_drop: float | None = None
    layers: tuple[LayerEstimate, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    speed: LatencyResult | None = None
    warnings: tuple[str, ...] = ()
    score_name: str = "score"
    score_is_fraction: bool = True
    score_unit: str = ""

    @property
    def words(self) -> ScoreWords:
        """For the scores on held-out samples."""
        return ScoreWords(self.score_name, self.score_is_fraction, self.score_unit)

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.tried.plan

    @property
    def plans_to_choose_from(self) -> tuple[TriedPlan, ...]:
        """Those of the front, cheapest first, and the plan that was found if it is none of them."""
        known = any(one.plan == self.plan for one in self.front)
        return self.front if known else (*self.front, self.tried)

    def to_json(self) -> dict[str, Any]:
        """The content of ``search.json``: drops of a fraction are points, hundredths; None for what is not finite."""
        document = {
            "version": VERSION,
            "search": self.search,
            "stop": self.stop,
            "trials": self.trials,
            "max_drop": self.max_drop,
            "score_name": self.score_name,
            "score_is_fraction": self.score_is_fraction,
            "score_unit": self.score_unit,
            "dense": {**asdict(self.dense), "held_out": self.dense_score},
            "plan": self.tried.to_json(),
            "front": [tried.to_json() for tried in self.front],
            "layers": [asdict(layer) for layer in self.layers],
            "warnings": list(self.warnings),
            "seconds": self.seconds,
            "provenance": self.provenance,
        }
        plain: dict[str, Any] = as_plain(document)
        return plain

    @staticmethod
    def from_json(data: object, where: Path | str = file) -> SearchResult:
        """The inverse of :meth:`to_json`; ``where`` is named where something is wrong.

        Raises:
            StorageError: something is missing or of another kind.
        """
        read = JsonObject.of(data, where, "copy it again, or search again with --resume")
        tried = TriedPlan.from_json(read.nested("plan"))
        provenance = read.read("provenance", dict[str, Any], {})
        latency = provenance.get("latency")
        return SearchResult(
            tried=tried,
            dense=read.read("dense", Cost),
            dense_score=read.nested("dense").number("held_out", None),
            search=read.read("search", str),
            stop=read.read("stop", str),
            trials=read.read("trials", int),
            front=tuple(TriedPlan.from_json(one) for one in read.each("front")),
            seconds=read.read("seconds", dict[str, float]),
            max_drop=read.read("max_drop", float | None, None),
            layers=read.read("layers", tuple[LayerEstimate, ...]),
            provenance=provenance,
            speed=LatencyResult.from_json(latency, tried.plan) if isinstance(latency, Mapping) else None,
            warnings=read.read("warnings", tuple[str, ...], ()),
            score_name=read.read("score_name", str, "score"),
            score_is_fraction=read.read("score_is_fraction", bool, "score_function" not in provenance),
            score_unit=read.read("score_unit", str, ""),
        )


def pareto_front(
    found: Iterable[Value], cost: Callable[[Value], float], loss: Callable[[Value], float]
) -> tuple[Value, ...]:
    """Those that no other beats in both cost and loss, cheapest first; none whose loss is infinite or not a number."""
    front, least = [], math.inf
    for one in sorted(found, key=lambda one: (cost(one), loss(one))):
        if loss(one) < least:
            least = loss(one)
            front.append(one)
    return tuple(front)
