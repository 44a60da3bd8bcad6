"""The dense network on the bench: layers are tried out in it, and whole plans carried out on copies of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import count, islice

import torch
from torch import Tensor, nn

from polyadic.formats import FactoredKernel
from polyadic.layers import device_of
from polyadic.pipeline.kernels import Kernels
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.schema import LayerSite, Plan, points
from polyadic.search import RankCandidates
from polyadic.surgery import (
    copy_model,
    input_norms,
    recalibrate_if_better,
    replace_in_sequence,
    replace_layer,
    replace_one_by_one,
)
from polyadic.training import EpochRecord, Task


class Workshop:
    """What all trials of a run share: networks, images, kernels, and whom to tell."""

    def __init__(
        self,
        dense: nn.Module,
        task: Task,
        sites: tuple[LayerSite, ...],
        options: CompressOptions,
        show: OnProgress,
        chains: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Nothing is scored or replaced yet; ``chains`` are what earlier rounds have put in the place of layers."""
        self.dense = dense
        self.bench = copy_model(dense)
        self.task = task
        self.sites = {site.name: site for site in sites}
        self.kernels = Kernels(dense, options)
        self.options = options
        self.show = show
        self.chains = dict(chains or {})

    @cached_property
    def dense_score(self) -> float:
        """The dense network's, on the held-out images."""
        return self.task.score(self.dense)

    def measure_inputs(self, all_candidates: tuple[RankCandidates, ...]) -> None:
        """Take the norm of every candidate's inputs, if there are images for it."""
        batches = list(self.batches()) if self.options.data_aware else []
        if batches:
            names = list(dict.fromkeys(candidates.layer for candidates in all_candidates))
            self.kernels.norms = input_norms(self.dense, names, torch.cat(batches), self.options.sequential)

    def batches(self) -> Iterable[Tensor]:
        """A few unlabelled batches."""
        return islice(self.calibration_batches(), self.options.moment_batches)

    def calibration_batches(self) -> Iterable[Tensor]:
        """The task's unlabelled batches, where the network is."""
        device = device_of(self.dense)
        return (batch.to(device) for batch in self.task.calibration_batches())

    def drop(self, model: nn.Module) -> float:
        """Points lost by ``model`` against the dense network on the held-out images."""
        return points(self.dense_score, self.task.score(model))

    def carry_out(self, plan: Plan) -> tuple[nn.Module, dict[str, FactoredKernel]]:
        """A copy of the dense network with every layer of ``plan`` replaced, and the kernels.

        Layer after layer, each in sight of what those before it have done, where there are images for it. A layer that
        was factorised in an earlier round keeps its chain if the plan does not name it.

        Raises:
            LayerError: a layer cannot be factorised so.
        """
        done = count(1)

        def replaced(layer: str) -> None:
            self.show(Progress("replace", next(done), len(plan.choices), layer))

        dense, factorise = self.dense, self.kernels.factorise
        standing = {name: chain for name, chain in self.chains.items() if plan.of(name) is None}
        sites = [site for site in self.sites.values() if site.name not in standing]
        if standing:
            dense = copy_model(dense)
            for name, chain in standing.items():
                replace_layer(dense, self.sites[name], copy_model(chain))
        batches = list(self.batches()) if self.options.data_aware else []
        if batches:
            network, kernels = replace_in_sequence(
                dense,
                plan,
                factorise,
                torch.cat(batches),
                sites,
                options=self.options.sequential,
                on_layer=replaced,
            )
        else:
            network, kernels = replace_one_by_one(dense, plan, factorise, on_layer=replaced)
        recalibrate_if_better(network, self.calibration_batches(), self.task.score)
        return network, kernels

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Report an epoch of fine-tuning."""
        score = "diverged" if record.score is None else f"{100 * record.score:.2f} % on held-out images"
        self.show(Progress("finetune", record.epoch, epochs, f"loss {record.loss:.4f}, {score}"))
