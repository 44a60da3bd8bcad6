"""Whether a model survives, and notices, a chain in the place of a layer: a forward pass with stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from polyadic.layers import evaluation_mode
from polyadic.schema import LayerSite
from polyadic.surgery.forward_record import Inputs, arguments_of
from polyadic.surgery.replace import swap_layer


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
    reasons = _rehearse(model, example_input, candidates, expected)
    if reasons:  # together they say that something is wrong, one by one which
        reasons = {}
        for site in candidates:
            reasons |= _rehearse(model, example_input, [site], expected)
    return tuple(replace(site, reason=reasons.get(site.name, site.reason)) for site in sites)


class _Counter(nn.Module):
    """Hands its input on and counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x


def _rehearse(
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
