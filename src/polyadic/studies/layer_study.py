"""Each layer alone, in several formats and ranks: error of the kernel, accuracy before and after fine-tuning it.

One layer at a time is factorised in the plain norm, put into the dense network and scored; then its chain alone is
fine-tuned for a moment, taught by the dense network, and scored again. All other layers stay dense and as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from polyadic.data import ImageData
from polyadic.errors import PolyadicError
from polyadic.formats import Format, format_named
from polyadic.schema import LayerRow, LayerSite, LayerStudy, Rank, chain_params
from polyadic.studies.scoring import Scorer, digest_of
from polyadic.studies.study import OnProgress, Row, RowFile, no_layer, rows_of, wanted_layers
from polyadic.surgery import FactorCache, chain_for, copy_model, find_layers_as_is, layer_at, swap_layer
from polyadic.training import LAYER_TUNING, Execution, FinetuneOptions, augmentation_for, train_on_images

FORMATS = ("cp-epc", "tucker2", "spatial-svd", "tt", "svd")


@dataclass(frozen=True)
class LayerOptions:
    """What is tried and how it is scored.

    Attributes:
        formats: names of formats; a layer that one refuses has no rows of it.
        shares: of the layer's MACs: the largest rank that the format offers within each is tried.
        layers: names or patterns with *; empty for all that can be factorised.
        tuning: of the single layer, on training images; None leaves chains as the decomposition made them.
        images: held-out training images for each accuracy; they also choose the best state of the tuning.
        batch_size: images per pass.
        execution: where and how passes run.
        cache: factored kernels on disk.
        seed: of the decompositions and of the tuning.
        work: folder in which rows are kept as they are measured; None keeps nothing.
        resume: whether to go on from rows that are there.
    """

    formats: tuple[str, ...] = FORMATS
    shares: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75)
    layers: tuple[str, ...] = ()
    tuning: FinetuneOptions | None = LAYER_TUNING
    images: int = 1000
    batch_size: int = 250
    execution: Execution = field(default_factory=Execution.for_training)
    cache: FactorCache = field(default_factory=lambda: FactorCache(None))
    seed: int = 0
    work: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown formats, shares and counts that are none."""
        for name in self.formats:
            format_named(name)
        if not self.formats or not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise PolyadicError(
                f"a study of layers takes formats, and shares of MACs above 0 and up to 1; got {self.formats} and "
                f"{self.shares}"
            )
        if self.images < 1 or self.batch_size < 1:
            raise PolyadicError(f"images and batch_size are at least 1; got {self.images} and {self.batch_size}")

    def decisive(self) -> str:
        """Everything that decides a row but its layer, format and rank, as text."""
        return repr((self.tuning, self.images, self.batch_size, self.execution, self.seed))


def layer_study(
    model: nn.Module,
    data: ImageData,
    options: LayerOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> LayerStudy:
    """Factorise each layer of ``model`` alone, score, fine-tune it, score; ``model`` is left as it is.

    No test image is read.

    Raises:
        LayerError: no layer that was asked for can be factorised, or the model does not run.
        DataError: the logits do not fit the labels.
        PolyadicError: rows of another study lie in the folder.
        StorageError: a row could not be written.
    """
    options = options or LayerOptions()
    dense, network = copy_model(model).eval(), copy_model(model).eval()
    sites = wanted_layers(find_layers_as_is(network, data.example(1)), options.layers)
    plans, skipped = _plans(network, sites, options)
    file = RowFile(options.work, digest_of(network, data, options.decisive()), resume=options.resume)
    scorer = Scorer(dense, data, options.execution, images=options.images, batch_size=options.batch_size)
    trial = _Trial(network, dense, data, scorer, options)
    measured = {
        f"{site.name}/{fmt.name}/{'-'.join(map(str, rank))}": partial(
            trial.row, site, sites.index(site), share, fmt, rank
        )
        for site, fmt, share, rank in plans
    }
    rows = rows_of(LayerRow, file.measure(measured, on_progress))
    return LayerStudy(rows=rows, skipped=skipped, dense_accuracy=scorer.dense_accuracy)


def _plans(
    network: nn.Module, sites: Sequence[LayerSite], options: LayerOptions
) -> tuple[list[tuple[LayerSite, Format, float, Rank]], dict[str, str]]:
    """Which rank of which format for which layer, and why other layers have none."""
    plans: list[tuple[LayerSite, Format, float, Rank]] = []
    skipped: dict[str, str] = {}
    for site in sites:
        if site.reason is not None:
            skipped[site.name] = site.reason
            continue
        _, kernel, spec = layer_at(network, site.name)
        before = len(plans)
        for fmt in map(format_named, options.formats):
            if fmt.refuses(spec) is not None:
                continue
            costs = {
                rank: site.chain_macs(fmt.stages(spec, rank)) for rank in fmt.candidate_ranks(kernel.detach(), spec)
            }
            chosen: dict[Rank, float] = {}
            for share in sorted(options.shares):
                within = [rank for rank, macs in costs.items() if macs <= share * site.macs]
                if within:
                    chosen.setdefault(max(within, key=lambda rank: costs[rank]), share)
            plans += [(site, fmt, share, rank) for rank, share in chosen.items()]
        if len(plans) == before:
            skipped[site.name] = "no format serves it within these shares of its MACs"
    if not plans:
        raise no_layer("a study of layers needs one that can be factorised", skipped)
    return plans, skipped


@dataclass(frozen=True, eq=False)
class _Trial:
    """Where one layer after the other is tried.

    Attributes:
        network: a copy of the dense network, in which one layer is replaced at a time.
        dense: the network as it came.
        data: its images.
        scorer: scores beside the dense network.
        options: of the study.
    """

    network: nn.Module
    dense: nn.Module
    data: ImageData
    scorer: Scorer
    options: LayerOptions

    def row(self, site: LayerSite, position: int, share: float, fmt: Format, rank: Rank) -> Row:
        """Factorise one layer, score, tune, score."""
        options, network = self.options, self.network
        layer, kernel, spec = layer_at(network, site.name)
        began = time.monotonic()
        factored = options.cache.factorise(kernel.detach(), spec, fmt, rank, options.seed)
        seconds = time.monotonic() - began
        chain = chain_for(layer, factored)
        tuned: tuple[float | None, float | None] = (None, None)
        with swap_layer(network, site, chain):
            accuracy, divergence = self.scorer.score(network)
            if options.tuning is not None:
                self._tune(chain, options.tuning)
                tuned = self.scorer.score(network)
        return {
            "layer": site.name,
            "position": position,
            "share": share,
            "format": fmt.name,
            "rank": rank,
            "mac_ratio": site.chain_macs(factored.stages) / site.macs,
            "parameter_ratio": chain_params(factored.stages) / kernel.numel(),
            "relative_error": factored.relative_error,
            "sensitivity": factored.sensitivity,
            "intensity_ratio": factored.intensity_ratio,
            "accuracy": accuracy,
            "divergence": divergence,
            "accuracy_tuned": tuned[0],
            "divergence_tuned": tuned[1],
            "seconds": round(seconds, 3),
            "stop": factored.stop,
        }

    def _tune(self, chain: nn.Module, tuning: FinetuneOptions) -> None:
        """Move the parameters of ``chain``, which stands in the network, and nothing else."""
        execution = self.options.execution
        tuning = replace(
            tuning,
            augmentation=augmentation_for(self.data),
            score_precision=execution.precision,
            seed=self.options.seed,
        )
        train_on_images(
            self.network,
            self.data,
            tuning,
            parameters=chain.requires_grad_(True).parameters(),
            teacher=self.dense,
            execution=execution,
            select_on=self.scorer.held_out,
        )
