"""What the processes of one compression say to each other: the main one searches and decides, all of them fine-tune.

Every process calls ``compress`` with the same model and data. The main one goes through the whole story; the others
wait, and whenever a network is to be fine-tuned they get its plan and its weights and take their share of every batch.
At the end they get the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from polyadic.pipeline.options import CompressionResult
from polyadic.pipeline.run import Judge, task_of
from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Plan, Summary
from polyadic.surgery import copy_model, rebuild
from polyadic.training import FinetuneReport, Processes, processes

Weights = Mapping[str, Tensor]
"""A state dict, on the CPU: it is read by processes that have other devices."""


@dataclass(frozen=True, eq=False)
class Sent:
    """Two networks as numbers, and what is to be done.

    Attributes:
        plan: how the dense network was factorised.
        dense: weights of the dense network.
        network: weights of the compressed one.
        part: (number from 1, count): which part of the fine-tuning is to be done.
        end: the summary and the example input, where there is nothing left to do.
    """

    plan: Plan
    dense: Weights
    network: Weights
    part: tuple[int, int] = (1, 1)
    end: tuple[Summary, Tensor] | None = None


def tune_together(
    workshop: Workshop,
    network: nn.Module,
    origin: nn.Module,
    plan: Plan,
    part: tuple[int, int],
    checkpoint: Path | None,
) -> FinetuneReport | None:
    """Fine-tune ``network`` with all processes; called by the main one.

    Args:
        workshop: whose task it is.
        network: ``origin`` factorised by ``plan``; trained in place.
        origin: the dense network, which teaches.
        plan: layer, format, rank.
        part: (number from 1, count) of the fine-tuning.
        checkpoint: see :func:`polyadic.training.train_on_images`.
    """
    team = processes()
    if team.count > 1:
        team.broadcast(Sent(plan, _weights(origin), _weights(network), part))
    return workshop.task.tune_network(network, origin, workshop.epoch, checkpoint)


def end_together(result: CompressionResult) -> CompressionResult:
    """Give the others the result; called by the main one."""
    team = processes()
    if team.count > 1:
        summary = (result.summary, result.example_input.cpu())
        team.broadcast(Sent(result.plan, _weights(result.dense), _weights(result.model), end=summary))
    return result


def help_along(model: nn.Module, judge: Judge, team: Processes) -> CompressionResult:
    """What a process does that is not the main one: wait, fine-tune what it is sent, and return the common result.

    Raises:
        PolyadicError: another process has failed.
    """
    task = task_of(judge)
    while True:
        sent: Sent = team.broadcast(None)
        dense = copy_model(model).eval()
        dense.load_state_dict(sent.dense)
        network = factorised(dense, sent.plan, sent.network)
        if sent.end is not None:
            return CompressionResult(network.eval(), dense, *sent.end)
        task.share(*sent.part).tune_network(network, dense, lambda record, epochs: None, None)


def factorised(dense: nn.Module, plan: Plan, weights: Weights) -> nn.Module:
    """A copy of ``dense``, factorised by ``plan``, with ``weights``; what is frozen in a layer is so in its chain."""
    network = rebuild(copy_model(dense), plan)
    network.load_state_dict(weights)
    for choice in plan.choices:
        trained = any(parameter.requires_grad for parameter in dense.get_submodule(choice.layer).parameters())
        network.get_submodule(choice.layer).requires_grad_(trained)
    return network


def _weights(model: nn.Module) -> Weights:
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
