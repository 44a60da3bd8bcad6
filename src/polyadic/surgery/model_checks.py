"""What is refused of a whole model before anything runs; and whether it survives, and notices, a chain for a layer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from polyadic.errors import LayerError, PolyadicError
from polyadic.layers import evaluation_mode
from polyadic.schema import LayerSite
from polyadic.surgery.forward_record import Inputs, arguments_of
from polyadic.surgery.plain_layers import require_module
from polyadic.surgery.replace import swap_layer


def check_model(model: nn.Module) -> None:
    """Refuse a model whose layers cannot be read or replaced.

    Raises:
        LayerError: it is compiled, scripted or exported, or weights are lazy or on the meta device.
    """
    require_module(model)
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
    require_module(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise LayerError(f"{name!r} has no shape before the first forward pass: run the model once on an example")
        if tensor.is_meta:
            raise LayerError(f"{name!r} is on the meta device and holds no numbers: load the weights first")


def check_finite(model: nn.Module) -> None:
    """Refuse a model with NaN or Inf weights, or with none yet, before anything is computed from it.

    Raises:
        PolyadicError: names the first such tensor.
    """
    check_loaded(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise PolyadicError(
                    f"compression needs finite weights; {name!r} has {bad} NaN or Inf of {tensor.numel()}: "
                    "load weights that trained to the end"
                )


def check_replacement(
    model: nn.Module, example_input: Inputs, sites: tuple[LayerSite, ...], runs: Mapping[str, int]
) -> tuple[LayerSite, ...]:
    """The sites, with a reason where the model does not survive, or does not notice, a chain in the layer's place.

    Args:
        model: runs on the example.
        example_input: as in :func:`polyadic.surgery.find_layers`.
        sites: those without a reason are tried.
        runs: how often each layer was called without stand-ins.
    """
    candidates = [site for site in sites if site.reason is None]
    expected = {site.name: runs[site.name] for site in candidates}
    reasons = _run_with_stand_ins(model, example_input, candidates, expected)
    if reasons:  # together they say that something is wrong, one by one which
        reasons = {}
        for site in candidates:
            reasons |= _run_with_stand_ins(model, example_input, [site], expected)
    return tuple(replace(site, reason=reasons.get(site.name, site.reason)) for site in sites)


class _Counter(nn.Module):
    """Hands its input on and counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x


def _run_with_stand_ins(
    model: nn.Module, example_input: Inputs, sites: list[LayerSite], expected: Mapping[str, int]
) -> dict[str, str]:
    """Run the model with an ``nn.Sequential`` around each layer; what is wrong, by name."""
    counters = {site.name: _Counter() for site in sites}
    try:
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(model))
            stack.enter_context(torch.no_grad())
            for site in sites:
                stand_in = nn.Sequential(counters[site.name], model.get_submodule(site.name)).eval()
                stack.enter_context(swap_layer(model, site, stand_in))
            model(*arguments_of(example_input))
    except Exception as error:  # whatever a stranger's forward raises when it meets another class
        words = next(iter(str(error).splitlines()), "")
        reason = f"the model does more with it than call it ({type(error).__name__}: {words})"
        return {site.name: reason for site in sites}
    return {
        name: "the model holds it under another reference too, where a replacement would not reach it"
        for name, counter in counters.items()
        if counter.calls < expected[name]
    }


def _fixed_by(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "torch.jit"
    # by name: importing torch._dynamo takes seconds, and a model that it has not wrapped does not need it
    if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
        return "torch.compile"
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):  # a mode that cannot be changed any more
        return "torch.export"
    return None
