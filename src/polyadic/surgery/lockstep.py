"""Run a network and its compressed copy side by side in one forward pass, so that each layer is compressed as it runs.

The batch holds every image twice. In each layer that is to be replaced the first half goes through the dense layer,
the second through what takes its place; everything between is shared. So when a layer is reached, its inputs in both
networks and its dense output are at hand, no prefix of the network is ever run again, and nothing has to be stored:
the whole walk costs one forward pass of each network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import LayerSite
from polyadic.surgery.forward_record import OperationCounter
from polyadic.surgery.replace import replace_layer


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
    model: nn.Module, sites: list[LayerSite], images: Tensor, replace: Replace, counter: OperationCounter
) -> dict[str, nn.Module]:
    """Run ``model`` on ``images`` (N, ...) twice over; ``replace`` is asked for each site's successor when it runs.

    The model comes back as it was. What runs between the sites is counted by ``counter``.

    Returns:
        The successors by name, in the order in which their layers ran; layers that did not run have none.

    Raises:
        LayerError: the output for one sample depends on the others, so the two halves would mix.
    """
    check_independent(model, images)
    found: dict[str, nn.Module] = {}

    def meet(name: str, meeting: LayerInputs) -> tuple[nn.Module, Tensor | None]:
        successor, shift = replace(name, meeting)
        found[name] = successor
        return successor, shift

    twins = {site.name: _Twin(site.name, model.get_submodule(site.name), meet, counter) for site in sites}
    with _standing_in(model, sites, twins), torch.no_grad():
        both = torch.cat([images, images])
        with counter:
            model(both)
    return found


def check_independent(model: nn.Module, images: Tensor) -> None:
    """Refuse a network whose output for one sample depends on the other samples of its batch.

    Raises:
        LayerError: it does.
    """
    if len(images) < 2:
        return
    with torch.no_grad():
        alone, together = _first_tensor(model(images[:1])), _first_tensor(model(images[:2]))
    if alone is None or together is None or alone.shape[1:] != together.shape[1:]:
        return
    size = float(together.float().norm()) + 1e-30
    if float((alone[:1] - together[:1]).float().norm()) > 1e-3 * size:
        raise LayerError(
            "a walk through both networks at once takes samples that do not see each other; the output for one image "
            "depends on the rest of its batch: put the model into evaluation mode, or compress with data_aware=False"
        )


class _Twin(nn.Module):
    """The dense layer for the first half of a batch, its successor for the second."""

    def __init__(self, name: str, layer: nn.Module, meet: Replace, counter: OperationCounter) -> None:
        super().__init__()
        self.name = name
        self.layer = layer
        self.meet = meet
        self.counter = counter
        self.successor: nn.Module | None = None
        self.shift: Tensor | None = None

    def forward(self, both: Tensor) -> Tensor:
        """(2 N, S, ...) to (2 N, T, ...)."""
        with self.counter.paused():
            x, y = both.chunk(2)
            t: Tensor = self.layer(x)
            if self.successor is None:
                self.successor, self.shift = self.meet(self.name, LayerInputs(x, y, t))
            out = self.successor(y)
            if self.shift is not None:
                out = out + self.shift.reshape(-1, *([1] * (out.ndim - 2)))
            return torch.cat([t, out])


@contextmanager
def _standing_in(model: nn.Module, sites: list[LayerSite], twins: dict[str, _Twin]) -> Iterator[None]:
    dense = {site.name: model.get_submodule(site.name) for site in sites}
    try:
        for site in sites:
            replace_layer(model, site, twins[site.name])
        yield
    finally:
        for site in sites:
            replace_layer(model, site, dense[site.name])


def _first_tensor(output: object) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    return (
        next((item for item in output if isinstance(item, Tensor)), None) if isinstance(output, list | tuple) else None
    )
