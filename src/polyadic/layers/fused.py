"""Chains that run in one call: another way to run a network of plain layers, not another network.

In eager PyTorch every module that is called costs some microseconds beside its arithmetic, and a chain is two to four
modules in the place of one. At batch 1 that is a good part of what a small chain takes (``benchmarks/cp_block.py``).
Here a chain calls torch's convolutions itself, with the parameters that its layers hold at that moment.

Plain layers stay what is trained, saved and exchanged: the names, shapes and numbers of a state dict are the same, and
so are the answers, to the bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

_CALLS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: torch.conv1d,
    nn.Conv2d: torch.conv2d,
    nn.Conv3d: torch.conv3d,
}


@final
class FusedChain(nn.Sequential):
    """Convolutions one after the other, in one call of a module."""

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Sequential`` of the same layers; (N, S, ...) to (N, T, ...)."""
        x = input
        for layer in self._modules.values():
            stage: Any = layer
            held = stage._parameters  # torch finds a parameter by its name in a detour through every attribute
            weight, bias = held["weight"], held["bias"]
            x = _CALLS[type(stage)](x, weight, bias, stage.stride, stage.padding, stage.dilation, stage.groups)
        return x


def fused(model: Network) -> Network:
    """A copy of ``model`` whose chains run in one call each; for PyTorch itself, at small batches.

    It answers as ``model`` does, to the bit. Chains are ``nn.Sequential`` of two or more convolutions with zeros as
    padding; others stay as they are, such as those with layers that are parametrised or that have hooks.

    Args:
        model: any module; it is left as it was. Fold batch norms first (:func:`polyadic.simplified`).
    """
    network = copy.deepcopy(model)
    for module in network.modules():
        if _is_chain(module):
            module.__class__ = FusedChain  # the same layers, hooks and mode, another forward
    return network


def _is_chain(module: nn.Module) -> bool:
    """Whether it is a sequence of torch's own convolutions, of which nobody watches one alone."""
    stages = [*module.children()]
    return (
        type(module) is nn.Sequential and len(module) > 1 and len(stages) == len(module) and all(map(_is_plain, stages))
    )


def _is_plain(stage: nn.Module) -> bool:
    watched = any(getattr(stage, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))
    return type(stage) in _CALLS and stage.padding_mode == "zeros" and not watched
