"""What a plan does to a network, before it is carried out for good: the one object of a search that has state."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from itertools import count, islice
from typing import Any

from torch import nn

from polyadic.formats import FactoredKernel
from polyadic.layers import Inputs, concatenate, device_of, first_samples, on_device, sample_count, tensors_in
from polyadic.pipeline.apply import Decomposer, apply_to_batch
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.search import RankCandidates, SearchSpace, Trial
from polyadic.surgery import (
    Statistics,
    chain_for,
    copy_model,
    input_norms,
    keep_statistics,
    measure_statistics,
    recalibrate_if_better,
    replace_layer,
    shift_statistics,
    swap_layer,
)
from polyadic.training import Proxy, Task
from polyadic.training.snapshot import weights_digest

SINGLE_LAYER_SHARE = 0.5
"""Of the images, for plans of one layer: their noise is a fraction, where losses of neighbouring ranks differ by
factors."""

SHIFT_IMAGES, LARGE_IMAGES, SHIFT_NUMBERS = 250, 32, 2**20
"""On which the shift of batch-norm statistics is measured: what the images are cancels out, so few are enough, and of
large images, with more positions each, fewer still."""


class PlanEvaluator:
    """A scratch copy of the dense network in which layers are tried out, and all that its trials share.

    Attributes:
        dense: the network that the search begins with, every layer plain.
        layers: what was found in it, by name.
        task: what the network is for.
        decompose: from a choice to its factored kernel.
        options: of the run.
        show: told of every step.
    """

    def __init__(
        self,
        dense: nn.Module,
        task: Task,
        layers: Iterable[LayerSite],
        options: CompressOptions,
        show: OnProgress,
        standing: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Nothing is scored or replaced yet; ``standing`` are the chains that earlier rounds have put in, by layer."""
        self.dense = dense
        self.layers = {site.name: site for site in layers}
        self.task = task
        self.decompose = Decomposer(dense, options.cache, options.seed)
        self.options = options
        self.show = show
        self._scratch = copy_model(dense)
        self._standing = dict(standing or {})
        self._chains: dict[Choice, nn.Module] = {}

    @cached_property
    def dense_score(self) -> float:
        """The dense network's, on the held-out images."""
        return self.task.score(self.dense)

    @cached_property
    def data_aware(self) -> bool:
        """Whether layers are fitted to data: it was not switched off, and the task has inputs."""
        return bool(self._inputs())

    def drop(self, model: nn.Module) -> float:
        """What ``model`` has lost against the dense network on the held-out samples."""
        return self.task.words.drop(self.dense_score, self.task.score(model))

    def measure_inputs(self, all_candidates: Sequence[RankCandidates]) -> None:
        """Take the norm of every candidate's inputs, if there are images for it."""
        batches = self._inputs()
        if batches:
            names = list(dict.fromkeys(candidates.layer for candidates in all_candidates))
            self.decompose.norms = input_norms(self.dense, names, concatenate(batches), self.options.sequential)

    def evaluate(self, plan: Plan, space: SearchSpace, trials: Sequence[Trial] = ()) -> tuple[Trial, dict[str, Any]]:
        """Put a chain in the place of every layer of ``plan``, untrained; what that loses, and details for the log.

        Every layer is decomposed for itself, once, so that a plan costs little more than the images it is looked at on.
        Batch-norm statistics follow the features (after PARS: Sobolev et al., 2022), for one layer as for many, so that
        their losses compare. Layers and statistics of the scratch network come back.

        Args:
            plan: layer, format, rank.
            space: what it was chosen from.
            trials: those so far: a plan that is hopeless beside the best of them is not looked at to the end.
        """
        began, several = time.monotonic(), len(plan.choices) > 1
        wholes = [trial.loss for trial in trials if len(trial.plan.choices) > 1] if several else []
        with ExitStack() as stack:
            for choice in plan.choices:
                if choice not in self._chains:
                    layer = self.dense.get_submodule(choice.layer)
                    self._chains[choice] = chain_for(layer, self.decompose(choice))
                stack.enter_context(swap_layer(self._scratch, self.layers[choice.layer], self._chains[choice]))
            stack.enter_context(keep_statistics(self._scratch))
            shift_statistics(self._scratch, self._few_batches, self._dense_statistics)
            best = min(wholes, default=math.inf)
            score = self._proxy(self._scratch, best, 1.0 if several else SINGLE_LAYER_SHARE)
        trial = Trial(plan, score.drop, joint=True, divergence=score.divergence)
        return trial, {"interval": score.interval, **_cost_and_time(plan, space, began)}

    def evaluate_tuned(
        self, plan: Plan, space: SearchSpace, trials: Sequence[Trial] = ()
    ) -> tuple[Trial, dict[str, Any]]:
        """Replace the one layer of ``plan`` and fine-tune it alone if that can decide; its trial, and details.

        Fine-tuning keeps the best state, the first one included, so a layer that passes without it passes with it: it
        is done only where it can change the verdict.

        Args:
            plan: of one choice.
            space: with the threshold, what a layer may lose after its own fine-tuning (EPS of Phan et al. 2020).
            trials: those so far, which change nothing here.
        """
        (choice,), began = plan.choices, time.monotonic()
        site, scratch = self.layers[choice.layer], self._scratch
        factored = self.decompose(choice)
        chain = chain_for(scratch.get_submodule(choice.layer), factored)
        with swap_layer(scratch, site, chain):
            before = after = self.drop(scratch)
            wanting = not before <= space.threshold  # NaN is wanting too
            if wanting:
                untuned = weights_digest(chain)
                told = self.task.tune_layer(scratch, chain.parameters(), self.dense)
                if told or weights_digest(chain) != untuned:  # a task may train and tell nothing
                    after = self.drop(scratch)
        details = {
            "threshold": space.threshold,
            "drop_before_finetuning": before,
            "relative_error": factored.relative_error,
            "weighted_error": factored.weighted_error,
            "sensitivity": factored.sensitivity,
            "macs": site.chain_macs(factored.stages),
        }
        return Trial(plan, after, final=wanting), {**details, **_cost_and_time(plan, space, began)}

    def evaluate_applied(self, plan: Plan) -> tuple[Trial, dict[str, Any]]:
        """Apply ``plan`` as it would be carried out, untuned; what that loses, and details for the log."""
        began = time.monotonic()
        network, kernels = self.apply(plan)
        drop = self.drop(network)
        macs = sum(self.layers[name].chain_macs(kernel.stages) for name, kernel in kernels.items())
        return Trial(plan, drop, joint=True), {"macs": macs, "seconds": round(time.monotonic() - began, 3)}

    def apply(self, plan: Plan) -> tuple[nn.Module, dict[str, FactoredKernel]]:
        """A copy of the dense network with ``plan`` applied to it, and the kernels; nothing is fine-tuned.

        A layer that was factorised in an earlier round keeps its chain if the plan does not name it. Batch-norm
        statistics are estimated anew where that raises the held-out score.

        Raises:
            LayerError: a layer cannot be factorised so.
        """
        done = count(1)

        def replaced(layer: str) -> None:
            self.show(Progress("replace", next(done), len(plan.choices), layer))

        network = self.dense
        standing = {name: chain for name, chain in self._standing.items() if plan.of(name) is None}
        if standing:
            network = copy_model(network)
            for name, chain in standing.items():
                replace_layer(network, self.layers[name], copy_model(chain))
        applied = apply_to_batch(
            network,
            plan,
            concatenate(self._inputs()) if self.data_aware else None,
            layers=[site for site in self.layers.values() if site.name not in standing],
            options=self.options.sequential,
            cache=self.options.cache,
            seed=self.options.seed,
            on_layer=replaced,
        )
        recalibrate_if_better(applied.model, self._calibration_batches(), self.task.score)
        return applied.model, dict(applied.kernels)

    def _inputs(self) -> list[Inputs]:
        """A few unlabelled batches; none where the layers are not to be fitted to data."""
        if not self.options.data_aware:
            return []
        return list(islice(self._calibration_batches(), self.options.moment_batches))

    def _calibration_batches(self) -> Iterable[Inputs]:
        """The task's unlabelled batches, where the network is."""
        device = device_of(self.dense)
        return (on_device(batch, device) for batch in self.task.calibration_batches())

    @cached_property
    def _few_batches(self) -> list[Inputs]:
        taken: list[Inputs] = []
        for batch in islice(self._calibration_batches(), self.options.moment_batches):
            count, numbers = sample_count(batch), sum(tensor.numel() for tensor in tensors_in(batch))
            enough = max(LARGE_IMAGES, SHIFT_NUMBERS * count // max(numbers, 1))
            taken.append(batch if enough >= SHIFT_IMAGES else first_samples(batch, enough))
            if sum(map(sample_count, taken)) >= min(enough, SHIFT_IMAGES):
                break
        return taken

    @cached_property
    def _dense_statistics(self) -> Statistics:
        """What the batch norms of the dense network see on the few batches."""
        return measure_statistics(self.dense, self._few_batches)

    @cached_property
    def _proxy(self) -> Proxy:
        """What untrained networks are compared by."""
        return self.task.proxy(self.dense)


def _cost_and_time(plan: Plan, space: SearchSpace, began: float) -> dict[str, Any]:
    """What the network would cost, and how long the trial took, for the log."""
    return {"cost": asdict(space.cost(plan)), "seconds": round(time.monotonic() - began, 3)}
