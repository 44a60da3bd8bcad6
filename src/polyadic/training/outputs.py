"""Outputs of any kind, compared with those of the dense network: R^2, which needs no label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.layers import device_of, evaluation_mode


def distillation_loss(outputs: Any, targets: Any) -> Tensor:
    """How far ``outputs`` are from a teacher's, as a share of what varies in the teacher's: 1 - R^2.

    For every tensor among them ``||f - g||^2 / ||g - mean(g)||^2``, in float32; the mean of these where there are
    several. It needs no label and serves maps, regressions and logits alike.

    Example:
        >>> import torch
        >>> float(distillation_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])))
        0.5

    Args:
        outputs: of the network that learns: a tensor, or tuples, lists, dicts or dataclasses of tensors.
        targets: of the teacher, in the same order and shapes; constants.

    Raises:
        LayerError: they are not of the same number and shapes, or hold no floating-point tensor.
    """
    own, taught = tensors_of(outputs), tensors_of(targets)
    if [answer.shape for answer in own] != [answer.shape for answer in taught]:
        raise LayerError(
            f"a network and its teacher give outputs of the same shapes; got {[tuple(o.shape) for o in own]} and "
            f"{[tuple(t.shape) for t in taught]}: teach with the network that was compressed"
        )
    shares = []
    for f, g in zip(own, taught, strict=True):
        target = g.detach().float()
        varies = (target - target.mean()).square().sum()
        shares.append((f.float() - target).square().sum() / varies.clamp_min(torch.finfo(torch.float32).tiny))
    return torch.stack(shares).mean()


def outputs_lost(dense: nn.Module, model: nn.Module, inputs: Iterable[Tensor]) -> float:
    """1 - R^2 of ``model``'s outputs on ``inputs``: 0 where they equal the dense network's, 1 where nothing stays.

    Returns:
        NaN where there are no inputs, or the networks return nothing that can be compared; infinite where the outputs
        of ``model`` are.
    """
    inputs = list(inputs)
    if not inputs:
        return math.nan
    try:
        own, taught = answers(model, inputs), answers(dense, inputs)
    except LayerError:
        return math.nan
    return distance_of(own, taught)


def answers(model: nn.Module, inputs: Iterable[Tensor]) -> list[list[Tensor]]:
    """What a network returns in evaluation mode, batch by batch: its floating-point tensors, in float32 on the CPU.

    Raises:
        LayerError: it returns none.
    """
    device = device_of(model)
    with evaluation_mode(model), torch.inference_mode():
        return [[answer.float().cpu() for answer in tensors_of(model(x.to(device)))] for x in inputs]


def tensors_of(outputs: Any) -> list[Tensor]:
    """The floating-point tensors of what a network returned, in their order.

    Raises:
        LayerError: there are none.
    """
    found: list[Tensor] = []

    def look(value: Any) -> None:
        if isinstance(value, Tensor):
            if value.is_floating_point():
                found.append(value)
        elif isinstance(value, Mapping):
            for item in value.values():
                look(item)
        elif isinstance(value, tuple | list):
            for item in value:
                look(item)
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                look(getattr(value, name))

    look(outputs)
    if not found:
        raise LayerError(
            f"outputs are compared, so they hold floating-point tensors; got {type(outputs).__name__}: wrap the "
            "network so that it returns its maps or logits"
        )
    return found


def distance_of(answers: list[list[Tensor]], targets: list[list[Tensor]]) -> float:
    """1 - R^2 over all batches: for each output tensor, squares over squares; infinite where anything is not finite."""
    shares = []
    for number in range(len(targets[0])):
        f = torch.cat([batch[number].double().flatten() for batch in answers])
        g = torch.cat([batch[number].double().flatten() for batch in targets])
        varies = float((g - g.mean()).square().sum())
        shares.append(float((f - g).square().sum()) / max(varies, torch.finfo(torch.float32).tiny))
    value = sum(shares) / len(shares)
    return value if math.isfinite(value) else math.inf
