"""What is refused of a whole model before anything runs: weights that hold no numbers, code that is already fixed."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from polyadic.errors import LayerError


def check_model(model: nn.Module) -> None:
    """Refuse a model whose layers cannot be read or replaced.

    Raises:
        LayerError: it is compiled, scripted or exported, or weights are lazy or on the meta device.
    """
    for name, module in model.named_modules():
        fixed = _fixed_by(module)
        if fixed is not None:
            raise LayerError(
                f"layers are found in a model of plain modules; {name or 'the model'!r} is fixed by {fixed}: pass the "
                "module that it was made of, and compile or export the result"
            )
    check_loaded(model)


def check_loaded(model: nn.Module) -> None:
    """Refuse weights that hold no numbers.

    Raises:
        LayerError: names the first one.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise LayerError(f"{name!r} has no shape before the first forward pass: run the model once on an example")
        if tensor.is_meta:
            raise LayerError(f"{name!r} is on the meta device and holds no numbers: load the weights first")


def _fixed_by(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "torch.jit"
    # by name: importing torch._dynamo takes seconds, and a model that it has not wrapped does not need it
    if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
        return "torch.compile"
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):  # a mode that cannot be changed any more
        return "torch.export"
    return None
