"""Which layer of a network an engine does not take: each kind of layer is given to it alone, with its real input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from polyadic.layers import evaluation_mode

_MOST = 12
"""Kinds of layers that are tried at most: each takes about a second."""


def refused_layer(
    network: nn.Module, example: tuple[Tensor, ...], attempt: Callable[[nn.Module, tuple[Tensor, ...]], object]
) -> str | None:
    """The first layer that ``attempt`` fails on, by name and as torch prints it; None where it fails on none alone.

    Args:
        network: left as it was; it runs in evaluation mode.
        example: its inputs.
        attempt: writes, opens and runs a layer by itself; whatever it raises counts as a refusal.
    """
    inputs: dict[str, Tensor] = {}
    leaves = {name: module for name, module in network.named_modules() if name and not list(module.children())}

    def keep(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def hook(_: nn.Module, args: tuple[object, ...]) -> None:
            if len(args) == 1 and isinstance(args[0], Tensor):
                inputs.setdefault(name, args[0])

        return hook

    handles = [module.register_forward_pre_hook(keep(name)) for name, module in leaves.items()]
    try:
        with evaluation_mode(network), torch.no_grad():
            network(*example)
    except Exception:  # it does not run on its own example, which is another story than that of a layer
        return None
    finally:
        for handle in handles:
            handle.remove()
    kinds: dict[tuple[str, tuple[int, ...]], str] = {}
    for name, x in inputs.items():
        kinds.setdefault((str(leaves[name]), tuple(x.shape[1:])), name)
    for name in sorted(kinds.values(), key=lambda name: not _is_unusual(leaves[name]))[:_MOST]:
        try:
            attempt(leaves[name], (inputs[name],))
        except Exception:  # the same stranger's compiler
            return f"layer {name!r}, {leaves[name]}"
    return None


def _is_unusual(layer: nn.Module) -> bool:
    """What engines are known to refuse: padding other than zeros, outputs padded, other spacings."""
    padding, out = getattr(layer, "padding_mode", "zeros"), getattr(layer, "output_padding", ())
    return padding != "zeros" or (isinstance(out, tuple) and any(out))
