"""What a compression or a search is asked for, what it says on the way, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from polyadic.schema import Cost, Plan, Summary
from polyadic.search import RankSearch
from polyadic.surgery import FactorCache, SequentialOptions


@dataclass(frozen=True)
class Progress:
    """One step of a run, for displays: ``done`` of about ``total`` in ``stage``, and what just happened."""

    stage: str
    done: int
    total: int
    message: str = ""


OnProgress = Callable[[Progress], None]


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
        round_to: ranks are rounded to multiples of this, where a layer is large enough to have any.
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
            :func:`polyadic.search.study_storage.opened`.
    """

    eps: float | None = None
    recoverable: float = 6.0
    search: RankSearch | None = None
    trials: int | None = None
    timeout: float | None = None
    rungs: int = 8
    round_to: int = 1
    exclude: tuple[str, ...] = ()
    data_aware: bool = True
    moment_batches: int = 4
    sequential: SequentialOptions = field(default_factory=SequentialOptions)
    seed: int = 0
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    work: Path | None = None
    resume: bool = False
    storage: str | None = None


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
    loss: float | None


@dataclass(frozen=True)
class FoundPlan:
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
    """

    tried: TriedPlan
    dense: Cost
    dense_score: float
    search: str
    stop: str
    trials: int
    front: tuple[TriedPlan, ...]
    seconds: dict[str, float]

    @property
    def plan(self) -> Plan:
        """Layer, format, rank."""
        return self.tried.plan


@dataclass(frozen=True)
class LayerForecast:
    """What a plan does to one layer, and why it leaves it alone where it does.

    Attributes:
        name: dotted path in the model.
        macs_before: multiply-accumulates of the dense layer for one sample.
        macs_after: the same of what would replace it.
        format: name of the format; None for a layer that stays dense.
        rank: rank or ranks.
        reason: why it stays dense.
    """

    name: str
    macs_before: int
    macs_after: int
    format: str | None = None
    rank: int | list[int] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Forecast:
    """What a network would cost with a plan; nothing was tried.

    Attributes:
        plan: layer, format, rank.
        dense: cost of the dense network.
        cost: of the compressed one.
        layers: what the plan does to each.
    """

    plan: Plan
    dense: Cost
    cost: Cost
    layers: tuple[LayerForecast, ...]
