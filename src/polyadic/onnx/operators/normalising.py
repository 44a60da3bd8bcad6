"""Normalisations: by statistics of a training set, of a sample, of a layer, of groups of channels or of neighbours."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator


@operator("BatchNormalization")
def batch_normalization(facts: NodeFacts) -> Operation:
    """Channels by the mean and variance that training left behind."""
    attributes = facts.attributes
    training = (
        attributes.get("training_mode", 0)
        or (facts.opset < 14 and facts.outputs > 1)
        or (facts.opset < 7 and not attributes.get("is_test", 0))
    )
    if training:
        raise NotInTorchError("batch normalisation that trains is not served")
    epsilon, by_channel = attributes.get("epsilon", 1e-5), attributes.get("spatial", 1)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if by_channel:
            scale, bias, mean, variance = (value.to(x.dtype) for value in (scale, bias, mean, variance))
            return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
        return (x - mean) * torch.rsqrt(variance + epsilon) * scale + bias

    return run


@operator("InstanceNormalization")
def instance_normalization(facts: NodeFacts) -> Operation:
    """Every channel of every sample by its own mean and variance."""
    epsilon = facts.attributes.get("epsilon", 1e-5)
    return lambda x, scale, bias: torch.group_norm(x, x.shape[1], scale, bias, epsilon)


@operator("GroupNormalization")
def group_normalization(facts: NodeFacts) -> Operation:
    """Every group of channels of every sample by its own mean and variance."""
    _check_stash(facts)
    groups, epsilon = facts.attributes["num_groups"], facts.attributes.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if facts.opset < 21:  # one number for every group
            scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
        return torch.group_norm(x, groups, scale, bias, epsilon)

    return run


@operator("LayerNormalization")
def layer_normalization(facts: NodeFacts) -> Operation:
    """All axes from one on by their mean and variance; gives these too, where they are asked for."""
    _check_stash(facts)
    first, epsilon = facts.attributes.get("axis", -1), facts.attributes.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        shape = x.shape[first % x.ndim :]
        if facts.outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, epsilon)
        axes, wide = _from(first, x), _precise(x)
        mean = wide.mean(axes, keepdim=True)
        inverse = torch.rsqrt((wide - mean).square().mean(axes, keepdim=True) + epsilon)
        y = ((wide - mean) * inverse).to(x.dtype) * scale
        y = y if bias is None else y + bias
        return y if facts.outputs == 1 else (y, mean, inverse)[: facts.outputs]

    return run


@operator("RMSNormalization")
def rms_normalization(facts: NodeFacts) -> Operation:
    """All axes from one on by the root of the mean of their squares."""
    _check_stash(facts)
    first, epsilon = facts.attributes.get("axis", -1), facts.attributes.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor) -> Tensor:
        wide = _precise(x)
        inverse = torch.rsqrt(wide.square().mean(_from(first, x), keepdim=True) + epsilon)
        return ((wide * inverse).to(x.dtype) * scale).to(x.dtype)

    return run


def _check_stash(facts: NodeFacts) -> None:
    if facts.attributes.get("stash_type", 1) != 1:
        raise NotInTorchError("statistics in another format than single precision are not served")


def _from(first: int, x: Tensor) -> list[int]:
    return list(range(first % x.ndim, x.ndim))


def _precise(x: Tensor) -> Tensor:
    """The tensor in single precision at least, which statistics are computed in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@operator("MeanVarianceNormalization")
def mean_variance_normalization(facts: NodeFacts) -> Operation:
    """Some axes by their mean and standard deviation."""
    axes = facts.attributes.get("axes", [0, 2, 3])

    def run(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        # The norm has a gradient where all is the same; the root of the variance has none there.
        count = math.prod(x.shape[axis] for axis in axes)
        deviation: Tensor = torch.linalg.vector_norm(centred, 2, axes, keepdim=True) / math.sqrt(count)
        return centred / (deviation + 1e-9)

    return run


@operator("LRN")
def local_response_normalization(facts: NodeFacts) -> Operation:
    """Every element by the squares at the same place of the channels around: Krizhevsky et al. 2012."""
    attributes = facts.attributes
    size, alpha = attributes["size"], attributes.get("alpha", 1e-4)
    beta, bias = attributes.get("beta", 0.75), attributes.get("bias", 1.0)

    def run(x: Tensor) -> Tensor:
        channels = x.shape[1]
        # An even number of channels has one more behind than in front; torch has it the other way around.
        padded = F.pad(x.square(), [*[0] * 2 * (x.ndim - 2), (size - 1) // 2, size // 2])
        squares = functools.reduce(torch.add, [padded.narrow(1, start, channels) for start in range(size)])
        scale: Tensor = (bias + alpha / size * squares).pow(beta)
        return x / scale

    return run


@operator("LpNormalization")
def lp_normalization(facts: NodeFacts) -> Operation:
    """An axis by its p-norm; zeros stay zeros."""
    axis, p = facts.attributes.get("axis", -1), facts.attributes.get("p", 2)

    def run(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return run
