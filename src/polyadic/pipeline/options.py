"""What a compression or a search is asked for, what it says on the way, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polyadic.engines import LatencyModel
from polyadic.pipeline.speed import LatencyResult
from polyadic.reporting import (
    Rows,
    Svg,
    forecast_html,
    found_figures,
    found_html,
    layer_records,
    summary_figures,
    summary_html,
)
from polyadic.schema import Cost, Plan, Summary
from polyadic.search import RankSearch
from polyadic.storage import as_plain
from polyadic.surgery import FactorCache, SequentialOptions


@dataclass(frozen=True)
class Progress:
    """One step of a run, for displays: ``done`` of about ``total`` in ``stage``, and what just happened.

    ``trying`` says what a search has begun to try, ``tried`` what came of it; ``whole`` whether that was a plan for the
    whole network.
    """

    stage: str
    done: int
    total: int
    message: str = ""
    trying: str | None = None
    tried: TriedPlan | None = None
    whole: bool = False


OnProgress = Callable[[Progress], None]

LIKED = 8
"""Multiples of this fill the vector registers of most processors."""


@dataclass(frozen=True)
class CompressOptions:
    """What :func:`polyadic.compress` need not be told.

    Attributes:
        eps: drop in points that a single layer may cause after its own fine-tuning (EPS of Phan et al. 2020). When
            absent it is an equal share of what the whole network may lose before fine-tuning, at most ``max_drop``;
            if the whole network then loses more all the same, ranks are given back to all layers.
        recoverable: how many times ``max_drop`` the whole network may lose before fine-tuning, on the held-out images;
            fine-tuning wins most of it back.
        search: the strategy; when absent bisection for a drop, and the frontier of all layers for a budget.
        trials: most trials of the search, which then ends with the best that it knows; None sets no limit. Those of a
            run that is gone on with count.
        timeout: seconds after which the search ends likewise; a trial that has begun is finished.
        rungs: ranks of each layer and format that a search of whole networks chooses from; what lies between them is
            used to fill up the budget.
        round_to: ranks are rounded to multiples of this, where a layer is large enough to have any. When absent, to
            multiples of 8 where an engine is named, and not at all otherwise.
        latency: on which engine the network is to be fast, and who takes the times; None counts operations alone.
        require_speedup: with an engine, replace layers only by what is measurably faster there, and return no network
            that is slower as a whole than the dense one.
        exclude: names or patterns (``*``, ``?``) of layers that stay dense.
        data_aware: decompose in the norm of each layer's inputs, and fit each chain to what the dense layer answers
            from what the layers before it have left; needs unlabelled images, of which ``moment_batches`` batches are
            used.
        moment_batches: see ``data_aware``.
        sequential: how firmly chains are fitted.
        seed: of the decompositions.
        cache: where factored kernels are kept.
        work: folder for the trial log and the training checkpoint; None keeps nothing.
        resume: go on with what is in ``work``.
        storage: URL of a study in which several workers share their trials, in the place of the log in ``work``; see
            :func:`polyadic.search.study_storage.open_storage`.
    """

    eps: float | None = None
    finetune_recovery_factor: float = 6.0
    search: RankSearch | None = None
    trials: int | None = None
    timeout: float | None = None
    candidates_per_layer: int = 8
    round_to: int | None = None
    latency: LatencyModel | None = None
    require_speedup: bool = True
    exclude: tuple[str, ...] = ()
    data_aware: bool = True
    moment_batches: int = 4
    sequential: SequentialOptions = field(default_factory=SequentialOptions)
    seed: int = 0
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    work: Path | None = None
    resume: bool = False
    storage: str | None = None

    @property
    def multiple(self) -> int:
        """What ranks are multiples of."""
        return self.round_to or (LIKED if self.latency is not None else 1)


@dataclass(frozen=True, eq=False)
class CompressionResult:
    """The networks and everything that is known of them.

    Attributes:
        model: the compressed network, in evaluation mode, out of plain torch layers.
        dense: a copy of the network as it came.
        summary: costs, scores, plan, layers, provenance.
        example_input: a batch of one sample.
    """

    model: nn.Module
    dense: nn.Module
    summary: Summary
    example_input: Tensor

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.summary.plan

    def records(self) -> Rows:
        """One row per layer; ``records().to_frame()`` is a data frame."""
        return layer_records(self.summary)

    def figures(self) -> dict[str, Svg]:
        """The plots of its page, but for those of the search, by name."""
        return summary_figures(self.summary)

    def _repr_html_(self) -> str:
        """What a notebook shows: headline, verdicts, the layers as a strip."""
        return summary_html(self.summary)


@dataclass(frozen=True)
class TriedPlan:
    """A plan for the whole network as it was tried: untuned.

    Attributes:
        plan: layer, format, rank.
        cost: of the network, from integers alone.
        drop: points lost on the held-out images.
        loss: mean divergence from the dense network's answers in nats, where it was measured.
    """

    plan: Plan
    cost: Cost
    drop: float
    divergence: float | None

    def document(self) -> dict[str, Any]:
        """The same as a mapping."""
        return {**asdict(self.cost), "drop": self.drop, "loss": self.divergence, "layers": self.plan.to_json()}


@dataclass(frozen=True)
class SearchResult:
    """What a search found, before anything is carried out.

    Attributes:
        tried: the plan; its cost, and what it loses before fine-tuning.
        dense: cost of the dense network.
        dense_score: its score on the held-out images.
        search: name of the strategy.
        stop: why the search ended.
        trials: how many there were.
        front: the plans of the whole network that were tried and that none beats in cost and harm, cheapest first.
        seconds: duration of each part.
        max_drop: the points that the network may lose in the end; None where only a budget was given.
        layers: what the plan does to each layer, and why it leaves alone what it does.
        provenance: versions, seeds, options, data hashes, machine.
        speed: of the plan as a whole on the engine, where one was named.
    """

    tried: TriedPlan
    dense: Cost
    dense_score: float
    search: str
    stop: str
    trials: int
    front: tuple[TriedPlan, ...]
    seconds: dict[str, float]
    max_drop: float | None = None
    layers: tuple[LayerEstimate, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    speed: LatencyResult | None = None

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.tried.plan

    def records(self) -> Rows:
        """One row per plan of the front, cheapest first, and one for the plan itself if it is none of them."""
        rows = [*self.front, *([] if self.tried in self.front else [self.tried])]
        return Rows({**one.document(), "chosen": one.plan == self.plan} for one in rows)

    def figures(self) -> dict[str, Svg]:
        """The plots of its page, but for those of the trials, by name."""
        return found_figures(self.document())

    def _repr_html_(self) -> str:
        """What a notebook shows: headline, verdicts, the plan as a strip of layers."""
        return found_html(self.document())

    def document(self) -> dict[str, Any]:
        """All of it as JSON has it, the content of ``search.json``; None for what is not finite."""
        document = {
            "version": 1,
            "search": self.search,
            "stop": self.stop,
            "trials": self.trials,
            "max_drop": self.max_drop,
            "dense": {**asdict(self.dense), "held_out": self.dense_score},
            "plan": self.tried.document(),
            "front": [tried.document() for tried in self.front],
            "layers": [asdict(layer) for layer in self.layers],
            "seconds": self.seconds,
            "provenance": self.provenance,
        }
        plain: dict[str, Any] = as_plain(document)
        return plain


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
        latency_before: milliseconds of the dense layer within a pass, where an engine was named.
        latency_after: the same of what would replace it.
        latency_measured: whether the latter was measured; it was interpolated otherwise.
        supported: whether any of the formats could have served it.
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


@dataclass(frozen=True)
class CostEstimate:
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

    def records(self) -> Rows:
        """One row per layer."""
        return Rows(asdict(layer) for layer in self.layers)

    def _repr_html_(self) -> str:
        """What a notebook shows: the costs, the plan as a strip of layers."""
        return forecast_html(self.dense, self.cost, self.records())

    speed: LatencyResult | None = None
