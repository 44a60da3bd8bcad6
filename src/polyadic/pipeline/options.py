"""What a run need not be told, and what it tells on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from polyadic.engines import LatencyModel
from polyadic.schema import TriedPlan
from polyadic.search import RankSearch
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

VECTOR_WIDTH = 8
"""Multiples of this fill the vector registers of most processors."""


@dataclass(frozen=True)
class CompressOptions:
    """What :func:`polyadic.compress` need not be told.

    Attributes:
        max_drop_per_layer: drop in points that a single layer may cause after its own fine-tuning (EPS of Phan et al.
            2020). When absent it is an equal share of what the whole network may lose before fine-tuning, at most
            ``max_drop``; if the whole network then loses more all the same, ranks are given back to all layers.
        finetune_recovery_factor: how many times ``max_drop`` the whole network may lose before fine-tuning, on the
            held-out images; fine-tuning wins most of it back.
        search: the strategy; when absent bisection for a drop, and the frontier of all layers for a budget.
        trials: most trials of the search, which then ends with the best that it knows; None sets no limit. Those of a
            run that is gone on with count.
        timeout: seconds after which the search ends likewise; a trial that has begun is finished.
        candidates_per_layer: ranks of each layer and format that a search of whole networks chooses from; what lies
            between them is used to fill up the budget.
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
        alarm_at: the share of its answers that a network may have lost, under a budget alone too, before the result
            begins with a warning and the command ends with exit status 3: of correct images for a classifier, of what
            varies in the outputs (1 - R^2) for all others (:mod:`polyadic.pipeline.alarm`).
        seed: of the decompositions.
        cache: where factored kernels are kept.
        work: folder for the trial log and the training checkpoint; None keeps nothing.
        resume: go on with what is in ``work``.
        storage: URL of a study in which several workers share their trials, in the place of the log in ``work``; see
            :func:`polyadic.search.study_storage.open_storage`.
    """

    max_drop_per_layer: float | None = None
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
    alarm_at: float = 0.25
    seed: int = 0
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    work: Path | None = None
    resume: bool = False
    storage: str | None = None

    @property
    def multiple(self) -> int:
        """What ranks are multiples of."""
        return self.round_to or (VECTOR_WIDTH if self.latency is not None else 1)
