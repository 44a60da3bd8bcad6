"""The dense network on the bench: single layers are tried out in it, and whole plans carried out on copies of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.layers import device_of
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.schema import Choice, LayerSite, Plan, plain_rank, points
from polyadic.search import Ladder, Problem, Trial, TrialLog
from polyadic.surgery import (
    chain_for,
    compress_apart,
    compress_in_sequence,
    input_norms,
    layer_at,
    recalibrate_if_better,
    swapped,
)
from polyadic.training import EpochRecord, Task


class Workshop:
    """Tries out layers and carries out plans."""

    def __init__(
        self, dense: nn.Module, task: Task, sites: tuple[LayerSite, ...], options: CompressOptions, show: OnProgress
    ) -> None:
        """Score the dense network; nothing is replaced yet."""
        self.dense = dense
        self.bench = copy.deepcopy(dense)
        self.task = task
        self.sites = {site.name: site for site in sites}
        self.options = options
        self.show = show
        self.dense_score = task.score(dense)
        self.norms: dict[str, InputNorm] = {}

    def measure_inputs(self, ladders: tuple[Ladder, ...]) -> None:
        """Take the norm of every candidate's inputs, if there are images for it."""
        batches = list(self.batches()) if self.options.data_aware else []
        if batches:
            names = list(dict.fromkeys(ladder.layer for ladder in ladders))
            self.norms = input_norms(self.dense, names, torch.cat(batches), self.options.sequential)

    def batches(self) -> Iterable[Tensor]:
        """A few unlabelled batches."""
        return islice(self.calibration_batches(), self.options.moment_batches)

    def calibration_batches(self) -> Iterable[Tensor]:
        """The task's unlabelled batches, where the network is."""
        device = device_of(self.dense)
        return (batch.to(device) for batch in self.task.calibration_batches())

    def search(self, problem: Problem, journal: TrialLog) -> Plan:
        """Ask the strategy for plans and try them until it has seen enough."""
        strategy = self.options.search
        total = strategy.expected_trials(problem)
        while (plan := strategy.propose(problem, journal.trials)) is not None:
            began = time.monotonic()
            trial, details = self.try_out(plan, problem.threshold)
            journal.add(trial, {**details, "seconds": round(time.monotonic() - began, 3)})
            done = len(journal.trials)
            self.show(Progress("search", done, max(total, done), f"{_in_words(plan)}: drop {trial.drop:.2f} points"))
        return strategy.conclude(problem, journal.trials)

    def try_out(self, plan: Plan, threshold: float) -> tuple[Trial, dict[str, Any]]:
        """Replace one layer of the dense network, fine-tune it alone if that can change the verdict, and score.

        Fine-tuning keeps the best state, the first one included, so a layer that passes without it passes with it.
        """
        (choice,) = plan.choices
        site = self.sites[choice.layer]
        _, weight, _ = layer_at(self.dense, choice.layer)
        factored = self.factorise(choice, weight.detach(), self.norms.get(choice.layer))
        chain = chain_for(self.bench.get_submodule(choice.layer), factored)
        with swapped(self.bench, site, chain):
            before = after = self.drop(self.bench)
            wanting = not before <= threshold  # NaN is wanting too
            if wanting and self.task.tune_layer(self.bench, chain.parameters(), self.dense):
                after = self.drop(self.bench)
        details = {
            "threshold": threshold,
            "drop_before_finetuning": before,
            "relative_error": factored.relative_error,
            "weighted_error": factored.weighted_error,
            "sensitivity": factored.sensitivity,
            "macs": site.chain_macs(factored.stages),
        }
        return Trial(plan, after, final=wanting), details

    def drop(self, model: nn.Module) -> float:
        """Points lost by ``model`` against the dense network on the held-out images."""
        return points(self.dense_score, self.task.score(model))

    def carry_out(self, plan: Plan) -> tuple[nn.Module, dict[str, FactoredKernel]]:
        """A copy of the dense network with every layer of ``plan`` replaced, and the kernels.

        Layer after layer, each in sight of what those before it have done, where there are images for it.
        """
        done = count(1)

        def replaced(layer: str) -> None:
            self.show(Progress("replace", next(done), len(plan.choices), layer))

        sites = self.sites.values()
        batches = list(self.batches()) if self.options.data_aware else []
        if batches:
            network, kernels = compress_in_sequence(
                self.dense, sites, plan, torch.cat(batches), self.factorise, self.options.sequential, replaced
            )
        else:
            network, kernels = compress_apart(self.dense, sites, plan, self.factorise, replaced)
        recalibrate_if_better(network, self.calibration_batches(), self.task.score)
        return network, kernels

    def joint_drop(self, plan: Plan, journal: TrialLog) -> float:
        """Points that the network loses when all of ``plan`` is carried out, untuned; from the log if known."""
        known = [trial.drop for trial in journal.trials if trial.joint and trial.plan == plan]
        if known:
            return known[-1]
        began = time.monotonic()
        network, kernels = self.carry_out(plan)
        drop = self.drop(network)
        macs = sum(self.sites[name].chain_macs(kernel.stages) for name, kernel in kernels.items())
        journal.add(Trial(plan, drop, joint=True), {"macs": macs, "seconds": round(time.monotonic() - began, 3)})
        return drop

    def factorise(self, choice: Choice, kernel: Tensor, norm: InputNorm | None) -> FactoredKernel:
        """The factored kernel for a choice.

        Raises:
            LayerError: the layer cannot be factorised so; the message names it.
        """
        _, _, spec = layer_at(self.dense, choice.layer)
        fmt, options = format_named(choice.format), self.options
        try:
            return options.cache.factorise(kernel, spec, fmt, choice.rank, options.seed, norm)
        except LayerError as error:
            raise LayerError(f"layer {choice.layer!r}: {error}") from error

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Report an epoch of fine-tuning."""
        score = "diverged" if record.score is None else f"{100 * record.score:.2f} % on held-out images"
        self.show(Progress("finetune", record.epoch, epochs, f"loss {record.loss:.4f}, {score}"))


def _in_words(plan: Plan) -> str:
    return ", ".join(f"{choice.layer} {choice.format} {plain_rank(choice.rank)}" for choice in plan.choices)
