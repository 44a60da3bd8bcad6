"""What a compression is asked for, what it says on the way, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from polyadic.schema import Plan, Summary
from polyadic.search import Bisection, RankSearch
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
        search: the strategy.
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
    """

    eps: float | None = None
    recoverable: float = 6.0
    search: RankSearch = field(default_factory=Bisection)
    exclude: tuple[str, ...] = ()
    data_aware: bool = True
    moment_batches: int = 4
    sequential: SequentialOptions = field(default_factory=SequentialOptions)
    seed: int = 0
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    work: Path | None = None
    resume: bool = False


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
