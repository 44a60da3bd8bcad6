"""Second moments of the inputs of layers, from a few unlabelled batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polyadic.layers import device_of


def input_moments(model: nn.Module, layers: Sequence[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """``E x x'`` (S x S, float64) over the input channels of each layer, at all positions of ``batches`` (N, ...)."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = dict.fromkeys(layers, 0)

    def record(name: str, x: Tensor) -> None:
        rows = _channels_last(x, model.get_submodule(name))
        sums[name] = sums.get(name, 0) + (rows.mT @ rows).double()
        counts[name] += rows.shape[0]

    with _watching(model, dict.fromkeys(layers, record)), torch.no_grad():
        for batch in batches:
            model(batch)
    return {name: total / counts[name] for name, total in sums.items()}


def paired_moments(dense: nn.Module, other: nn.Module, layer: str, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """``(E x y', E y y')`` (S x S, float64), x the inputs of ``layer`` in ``dense`` and y those in ``other``."""
    cross = moment = torch.zeros((), dtype=torch.float64, device=device_of(dense))
    count = 0
    with torch.no_grad():
        for batch in batches:
            x, y = _inputs_of(dense, layer, batch), _inputs_of(other, layer, batch)
            cross, moment, count = cross + (x.mT @ y).double(), moment + (y.mT @ y).double(), count + x.shape[0]
    return cross / count, moment / count


class _Reached(Exception):  # noqa: N818  # it stops a forward pass, it is no error
    """The layer that was asked for has its input: the rest of the network need not run."""


def _inputs_of(model: nn.Module, layer: str, batch: Tensor) -> Tensor:
    found: list[Tensor] = []

    def stop(name: str, x: Tensor) -> None:
        found.append(_channels_last(x, model.get_submodule(name)))
        raise _Reached

    with _watching(model, {layer: stop}):
        try:
            model(batch)
        except _Reached:
            return found[0]
    raise ValueError(f"layer {layer!r} did not run")


@contextmanager
def _watching(model: nn.Module, watchers: dict[str, Callable[[str, Tensor], None]]) -> Iterator[None]:
    """Call ``watcher(name, input)`` before every forward pass of the named layers."""
    handles = []
    for name, watcher in watchers.items():
        handles.append(model.get_submodule(name).register_forward_pre_hook(_calling(watcher, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _calling(watcher: Callable[[str, Tensor], None], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda _, args: watcher(name, args[0])


def _channels_last(x: Tensor, layer: nn.Module) -> Tensor:
    """The input as rows of channels: positions x S, float32."""
    rows = x if isinstance(layer, nn.Linear) else x.movedim(1, -1)
    return rows.reshape(-1, rows.shape[-1]).float()
