"""Random weights under which every layer of a network counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The network of ``build`` in evaluation mode, with random weights that depend on the seed alone.

    Libraries begin many parameters at a constant: a last batch norm or a classifier at 0, a layer scale at 1e-6. The
    branch behind it would not reach the output, and whatever became of its layers would go unseen. Every constant
    parameter, and the statistics of every batch norm, are therefore drawn at random.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build().eval()
        for parameter in network.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.flatten()[0]).all()):
                _draw(parameter)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return network


def _draw(parameter: Tensor) -> None:
    """Weights of unit gain, scales around 1 or around what they were, shifts around 0."""
    constant = float(parameter.flatten()[0])
    if parameter.ndim >= 2 and max(parameter.shape) < parameter.numel():
        parameter.normal_(std=1.0 / math.sqrt(parameter.numel() / parameter.shape[0]))
    elif constant == 0.0:
        parameter.uniform_(-0.1, 0.1)
    else:
        parameter.uniform_(0.5, 1.5)
