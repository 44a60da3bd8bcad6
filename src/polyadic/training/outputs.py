"""Outputs of any kind, compared with those of the dense network: which needs no label."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError, PolyadicError
from polyadic.layers import call_model, device_of, evaluation_mode, on_device

Compare = Literal["squares", "divergence"]
"""How outputs are compared: by their squared distance, or as logits by the divergence of their probabilities."""

TINY = torch.finfo(torch.float32).tiny

Ask = Callable[[nn.Module, Any], Any]
"""From a network and a batch on its device to its outputs."""


def distillation_loss(outputs: Any, targets: Any, compare: Compare = "squares") -> Tensor:
    """How far ``outputs`` are from a teacher's, as a share of what the teacher's outputs tell: 0 where they are equal.

    For every tensor among them, in float32; the mean of these where there are several.

    * "squares": ``||f - g||^2 / ||g - mean(g)||^2``, which is 1 - R^2. It serves maps, regressions and logits alike.
    * "divergence": of logits with classes on axis 1, ``sum KL(p || q) / sum KL(p || mean(p))``, where ``q`` and ``p``
      are the softmax of ``f`` and ``g``: what is lost of the information that the teacher's answers hold
      (after Hinton et al. 2015). 1 is what its mean answer would lose, whatever the sample.

    Neither needs a label.

    Example:
        >>> import torch
        >>> float(distillation_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])))
        0.5

    Args:
        outputs: of the network that learns: a tensor, or tuples, lists, dicts or dataclasses of tensors.
        targets: of the teacher, in the same order and shapes; constants.
        compare: see above.

    Raises:
        LayerError: they are not of the same number and shapes, hold no floating-point tensor, or are no logits.
        PolyadicError: ``compare`` is none of these.
    """
    check_compare(compare)
    own, taught = tensors_of(outputs), tensors_of(targets)
    if [answer.shape for answer in own] != [answer.shape for answer in taught]:
        raise LayerError(
            f"a network and its teacher give outputs of the same shapes; got {[tuple(o.shape) for o in own]} and "
            f"{[tuple(t.shape) for t in taught]}: teach with the network that was compressed"
        )
    shares = []
    for f, g in zip(own, taught, strict=True):
        lost, whole = _lost_and_whole(f.float(), g.detach().float(), compare)
        shares.append(lost / whole.clamp_min(TINY))
    return torch.stack(shares).mean()


def _lost_and_whole(f: Tensor, g: Tensor, compare: Compare) -> tuple[Tensor, Tensor]:
    """What ``f`` has lost of ``g``, and what there is to lose."""
    if compare == "squares":
        return (f - g).square().sum(), (g - g.mean()).square().sum()
    check_logits(g)
    p, log_p = g.softmax(1), g.log_softmax(1)
    mean = p.movedim(1, -1).flatten(0, -2).mean(0).clamp_min(TINY).log()
    mean = mean.reshape(1, -1, *([1] * (p.dim() - 2)))
    return (p * (log_p - f.log_softmax(1))).sum(), (p * (log_p - mean)).sum()


def check_compare(compare: object) -> Compare:
    """How outputs are compared, as it was given.

    Raises:
        PolyadicError: in no way that is known.
    """
    for known in get_args(Compare):
        if compare == known:
            way: Compare = known
            return way
    raise PolyadicError(f"compare is one of {', '.join(map(repr, get_args(Compare)))}; got {compare!r}")


def check_logits(outputs: Tensor) -> None:
    """Refuse what has no classes.

    Raises:
        LayerError: fewer than two axes, or fewer than two classes.
    """
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        raise LayerError(
            f"a divergence compares logits (N, classes, ...) of two classes or more; got {tuple(outputs.shape)}: use "
            "compare='squares'"
        )


def outputs_lost(dense: nn.Module, model: nn.Module, inputs: Iterable[Any]) -> float:
    """1 - R^2 of ``model``'s outputs on ``inputs``: 0 where they equal the dense network's, 1 where nothing stays.

    Where they are as large as the input, it is that of what is changed in it, if that is more (:func:`change_lost`).

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
    return max(distance_of(own, taught), change_lost(own, taught, inputs))


def change_lost(own: list[list[Tensor]], taught: list[list[Tensor]], inputs: Iterable[Any]) -> float:
    """1 - R^2 of what a network changes in its input: of a denoiser the noise, which is a small part of its output.

    Args:
        own: a network's answers, batch by batch.
        taught: the dense network's.
        inputs: what both were given.

    Returns:
        0 where the outputs are not one tensor as large as the one that goes in; infinite where they are not finite.
    """
    pairs = []
    for given, answer, target in zip(inputs, own, taught, strict=True):
        x = given.float().cpu() if isinstance(given, Tensor) else None
        if x is None or len(target) != 1 or target[0].shape != x.shape:
            return 0.0
        pairs.append(((answer[0] - x).flatten(), (target[0] - x).flatten()))
    f, g = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    if not float((g - g.mean()).square().sum()):
        return 0.0  # it changes nothing that could be lost
    lost, whole = _lost_and_whole(f, g, "squares")
    value = float(lost) / max(float(whole), TINY)
    return value if math.isfinite(value) else math.inf


def answers(model: nn.Module, batches: Iterable[Any], ask: Ask = call_model) -> list[list[Tensor]]:
    """What a network returns in evaluation mode, batch by batch: its floating-point tensors, in float32 on the CPU.

    Raises:
        LayerError: it returns none.
    """
    device = device_of(model)
    with evaluation_mode(model), torch.inference_mode():
        return [
            [answer.float().cpu() for answer in tensors_of(ask(model, on_device(batch, device)))] for batch in batches
        ]


def tensors_of(outputs: Any) -> list[Tensor]:
    """The floating-point tensors of what a network returned, in their order; without single numbers, such as a loss.

    Raises:
        LayerError: there are none.
    """
    found: list[Tensor] = []

    def look(value: Any) -> None:
        if isinstance(value, Tensor):
            if value.is_floating_point() and value.dim():
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


def distance_of(answers: list[list[Tensor]], targets: list[list[Tensor]], compare: Compare = "squares") -> float:
    """:func:`distillation_loss` over all batches: for each output tensor, sums over sums; infinite where not finite."""
    shares = []
    for number in range(len(targets[0])):
        f, g = (torch.cat([_flat(batch[number].double(), compare) for batch in some]) for some in (answers, targets))
        lost, whole = _lost_and_whole(f, g, compare)
        shares.append(float(lost) / max(float(whole), TINY))
    value = sum(shares) / len(shares)
    return value if math.isfinite(value) else math.inf


def _flat(answer: Tensor, compare: Compare) -> Tensor:
    """Numbers, or positions x classes: batches may be of several sizes."""
    return answer.flatten() if compare == "squares" else answer.movedim(1, -1).flatten(0, -2)
