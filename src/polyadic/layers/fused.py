"""Another way to run a network of plain layers in PyTorch itself, not another network.

In eager PyTorch every module that is called costs some microseconds beside its arithmetic, a chain is two to four
modules in the place of one, and the kernel of each is laid out anew in every pass. So a network that can be followed
becomes a straight line of calls (:mod:`polyadic.layers.straight_line`), whose convolutions are those of
:mod:`polyadic.layers.onednn`. Of any other network the chains alone are run in one call each: they call torch's
convolutions themselves, with the parameters that their layers hold at that moment.

Plain layers stay what is trained, saved and exchanged: the names, shapes and numbers of a state dict are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from polyadic.layers.straight_line import run_straight

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


def fused(model: Network, example_input: Tensor | tuple[Tensor, ...] | None = None) -> Network:
    """A copy of ``model`` in evaluation mode that runs in fewer and better calls; for PyTorch itself.

    A network that a symbolic trace can follow becomes one straight line. On the processor, for float32 images in
    channels-last and without gradients, each of its convolutions is one call of oneDNN with the sum and the activation
    after it and a kernel that is packed beforehand, or torch's own, whichever was faster when the layer first met an
    input of that shape; packed kernels take their memory once more. Everywhere else the line calls the plain layers,
    and answers to the bit as ``model`` does. Of a network that cannot be followed, or that somebody watches by hooks,
    only the chains are run in one call each: ``nn.Sequential`` of two or more convolutions with zeros as padding, none
    of them parametrised or watched.

    Args:
        model: any module; it is left as it was. Fold batch norms first (:func:`polyadic.fold_and_merge`).
        example_input: a batch (N, ...) or a tuple of arguments. If there is one, a line that answers otherwise on it is
            not used: a symbolic trace takes ``y += 1`` for ``y = y + 1``, which differs where ``y`` has another name.
    """
    network = copy.deepcopy(model)
    if run_straight(network, (example_input,) if isinstance(example_input, Tensor) else example_input):
        return network
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
