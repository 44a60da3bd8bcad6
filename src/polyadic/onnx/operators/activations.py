"""Activation functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator


@operator("Relu")
def relu(facts: NodeFacts) -> Operation:
    """Gives max(x, 0)."""
    return torch.relu


@operator("LeakyRelu")
def leaky_relu(facts: NodeFacts) -> Operation:
    """Gives x where it is positive, else alpha x."""
    alpha = facts.attributes.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@operator("PRelu")
def parametric_relu(facts: NodeFacts) -> Operation:
    """Gives x where it is positive, else slope times x; one slope for all elements, for each channel, or broadcast."""

    def run(x: Tensor, slope: Tensor) -> Tensor:
        if facts.opset < 7 and slope.ndim == 1 and slope.numel() > 1:
            slope = slope.reshape(-1, *[1] * (x.ndim - 2))
        channels = x.shape[1] if x.ndim > 1 else 1
        by_channel = slope.shape == (channels, *[1] * (x.ndim - 2)) and x.ndim > 1
        if x.is_floating_point() and (slope.numel() == 1 or by_channel):
            return torch.prelu(x, slope.reshape(-1))
        return torch.where(x >= 0, x, slope * x)

    return run


@operator("Elu")
def elu(facts: NodeFacts) -> Operation:
    """Gives x where it is positive, else alpha (exp(x) - 1)."""
    alpha = facts.attributes.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Selu")
def selu(facts: NodeFacts) -> Operation:
    """Gives gamma x where it is positive, else gamma alpha (exp(x) - 1)."""
    # Version 1 had other digits; those of version 6 are of Klambauer et al. 2017.
    standard = (1.6732, 1.0507) if facts.opset < 6 else (1.67326319217681884765625, 1.05070102214813232421875)
    alpha, gamma = facts.attributes.get("alpha", standard[0]), facts.attributes.get("gamma", standard[1])
    return lambda x: gamma * F.elu(x, alpha)


@operator("Celu")
def celu(facts: NodeFacts) -> Operation:
    """Gives max(x, 0) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = facts.attributes.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Gelu")
def gelu(facts: NodeFacts) -> Operation:
    """Gives x times the share of a normal distribution below x, by the error function or approximated by a tanh."""
    approximate = facts.attributes.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


@operator("Sigmoid")
def sigmoid(facts: NodeFacts) -> Operation:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid


@operator("HardSigmoid")
def hard_sigmoid(facts: NodeFacts) -> Operation:
    """Gives alpha x + beta, between 0 and 1."""
    alpha, beta = facts.attributes.get("alpha", 0.2), facts.attributes.get("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


@operator("HardSwish")
def hard_swish(facts: NodeFacts) -> Operation:
    """Gives x times x / 6 + 1 / 2, the latter between 0 and 1."""
    return lambda x: F.hardswish(x)


@operator("Swish")
def swish(facts: NodeFacts) -> Operation:
    """Gives x times the sigmoid of alpha x."""
    alpha = facts.attributes.get("alpha", 1.0)
    return F.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


@operator("Mish")
def mish(facts: NodeFacts) -> Operation:
    """Gives x tanh(log(1 + exp(x)))."""
    return lambda x: F.mish(x)


@operator("Softplus")
def softplus(facts: NodeFacts) -> Operation:
    """log(1 + exp(x))."""
    # Beyond the threshold torch takes x itself: at 40 that is exact in double precision too.
    return lambda x: F.softplus(x, threshold=40)


@operator("Softsign")
def softsign(facts: NodeFacts) -> Operation:
    """Gives x / (1 + |x|)."""
    return lambda x: F.softsign(x)


@operator("ThresholdedRelu")
def thresholded_relu(facts: NodeFacts) -> Operation:
    """Gives x where it is larger than alpha, else 0."""
    alpha = facts.attributes.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("Shrink")
def shrink(facts: NodeFacts) -> Operation:
    """0 up to lambd to both sides; beyond, x brought closer to 0 by the bias."""
    lambd, bias = facts.attributes.get("lambd", 0.5), facts.attributes.get("bias", 0.0)

    def run(x: Tensor) -> Tensor:
        nearer = torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))
        return nearer.to(x.dtype)

    return run


@operator("Softmax", "LogSoftmax")
def softmax(facts: NodeFacts) -> Operation:
    """Shares that sum to 1 along an axis, or their logarithms; before version 13 along all axes from that one on."""
    function = torch.softmax if facts.operator == "Softmax" else torch.log_softmax
    axis = facts.attributes.get("axis", -1 if facts.opset >= 13 else 1)
    if not isinstance(axis, int):
        raise NotInTorchError(f"the axis of a softmax is a number, not {axis!r}")

    def run(x: Tensor) -> Tensor:
        if facts.opset >= 13 or axis in (-1, x.ndim - 1):
            return function(x, axis)
        return function(x.flatten(axis % x.ndim), -1).reshape(x.shape)

    return run
