"""Run a network and its compressed copy side by side in one forward pass, so that each layer is compressed as it runs.

The batch holds every image twice. In each layer that is to be replaced the first half goes through the dense layer,
the second through what takes its place; everything between is shared. So when a layer is reached, its inputs in both
networks and its dense output are at hand, no prefix of the network is ever run again, and nothing has to be stored:
the whole walk costs one forward pass of each network.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.layers import Inputs, call_model, concatenate, first_samples, sample_count, tensors_in
from polyadic.schema import LayerSite
from polyadic.surgery.fast_path import unfused_attention
from polyadic.surgery.forward_record import OperationCounter, record_forward
from polyadic.surgery.replace import swap_layer


@dataclass(frozen=True)
class LayerInputs:
    """What is known when a layer runs for the first time.

    Attributes:
        x: its input in the dense network.
        y: its input in the compressed one.
        t: its output in the dense network.
    """

    x: Tensor
    y: Tensor
    t: Tensor


Replace = Callable[[str, LayerInputs], tuple[nn.Module, Tensor | None]]
"""From a layer's name and what is known to its successor, and a shift (T) of the successor's output."""


def run_in_lockstep(
    model: nn.Module, sites: list[LayerSite], inputs: Inputs, replace: Replace, counter: OperationCounter
) -> dict[str, nn.Module]:
    """Run ``model`` on a batch of ``inputs`` twice over; ``replace`` is asked for each site's successor when it runs.

    The model comes back as it was. What runs between the sites is counted by ``counter``.

    Returns:
        The successors by name; layers that did not run have none.

    Raises:
        LayerError: the output for one sample depends on the others, so the two halves would mix.
    """
    check_independent(model, inputs)
    axes = _sample_axes(model, [site.name for site in sites], inputs)
    twins = {
        site.name: _Twin(site.name, model.get_submodule(site.name), replace, counter, axes.get(site.name, 0))
        for site in sites
    }
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(swap_layer(model, site, twins[site.name]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(unfused_attention())
        both = concatenate([inputs, inputs])
        stack.enter_context(counter)
        call_model(model, both)
    return {name: twin.successor for name, twin in twins.items() if twin.successor is not None}


def check_independent(model: nn.Module, inputs: Inputs) -> None:
    """Refuse a network whose output for one sample depends on the other samples of its batch.

    Raises:
        LayerError: it does.
    """
    if sample_count(inputs) < 2:
        return
    with torch.no_grad():
        alone, together = (next(tensors_in(call_model(model, first_samples(inputs, count))), None) for count in (1, 2))
    if alone is None or together is None or alone.shape[1:] != together.shape[1:]:
        return
    size = float(together.float().norm()) + 1e-30
    if float((alone[:1] - together[:1]).float().norm()) > 1e-3 * size:
        raise LayerError(
            "a walk through both networks at once takes samples that do not see each other; the output for one sample "
            "depends on the rest of its batch: put the model into evaluation mode, or compress with data_aware=False"
        )


def _sample_axes(model: nn.Module, names: list[str], inputs: Inputs) -> dict[str, int]:
    """Along which axis the inputs of each layer grow with the batch: 1 in a transformer that takes (L, N, E)."""
    one = first_samples(inputs, 1)
    shapes = [
        {name: [run.shape for run in runs] for name, runs in record_forward(model, given, names).runs.items()}
        for given in (one, concatenate([one, one]))
    ]
    axes = {}
    for name in shapes[0].keys() & shapes[1].keys():
        few, many = shapes[0][name][0], shapes[1][name][0]
        if few is not None and many is not None and len(few) == len(many):
            axes[name] = next((axis for axis, (n, m) in enumerate(zip(few, many, strict=True)) if n != m), 0)
    return axes


class _Twin(nn.Module):
    """The dense layer for the first half of a batch, its successor for the second; samples lie along ``axis``."""

    def __init__(self, name: str, layer: nn.Module, replace: Replace, counter: OperationCounter, axis: int) -> None:
        super().__init__()
        self.name = name
        self.layer = layer
        self.replace = replace
        self.counter = counter
        self.axis = axis
        self.successor: nn.Module | None = None
        self.shift: Tensor | None = None

    def forward(self, both: Tensor) -> Tensor:
        """(2 N, S, ...) to (2 N, T, ...); of a Linear the samples may be along another axis."""
        with self.counter.paused():
            x, y = both.chunk(2, self.axis)
            t: Tensor = self.layer(x)
            if self.successor is None:
                self.successor, self.shift = self.replace(self.name, LayerInputs(x, y, t))
            out = self.successor(y)
            if self.shift is not None:
                out = out + self.shift.reshape(-1, *([1] * (out.ndim - 2)))
            return torch.cat([t, out], self.axis)
