"""An engine whose times are known: a function of the layers, without a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

from torch import Tensor, nn

from polyadic.engines import Conditions, Engine, LatencyCache, LatencyModel, Prepared, Timing

CALL = 0.5
"""Milliseconds of any call of the fake engine, whatever the network."""


class _Known(Prepared):
    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return inputs

    def once(self) -> None:
        raise AssertionError("the times of a fake engine are known, not taken")


def per_mac(layer: nn.Module, outputs: Tensor) -> float:
    """A millisecond for 10,000 multiply-accumulates of a sample."""
    weight = layer.get_parameter("weight")
    positions = outputs[0].numel() // weight.shape[0]
    return weight.numel() * positions / 10_000


@final
@dataclass(frozen=True)
class FakeEngine(Engine):
    """Every layer with a weight takes ``time_of(layer, outputs)`` milliseconds, a call ``CALL`` more.

    Attributes:
        time_of: from a layer and its outputs for the example.
        whole: factor on the times of whole networks of more than so many ``layers``, of which blocks know nothing.
        layers: see ``whole``; a network is whole if it holds batch norms.
        prepared: shapes of the examples of all networks that were prepared, in order.
    """

    time_of: Callable[[nn.Module, Tensor], float] = per_mac
    whole: float = 1.0
    layers: int = 4
    prepared: list[tuple[int, ...]] = field(default_factory=list, compare=False, repr=False)

    @property
    def name(self) -> str:
        return "fake"

    @property
    def version(self) -> str:
        return "1"

    @property
    def layout(self) -> str:
        return "its own"

    def missing(self) -> str | None:
        return None

    def refuses(self, conditions: Conditions) -> str | None:
        return "it knows float32 alone" if conditions.precision != "float32" else None

    def _prepare(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        self.prepared.append(tuple(example[0].shape))
        total = 0.0

        def add(layer: nn.Module, _: object, outputs: Tensor) -> None:
            nonlocal total
            total += self.time_of(layer, outputs) * conditions.batch

        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(add) for layer in layers]
        model(*example)
        for hook in hooks:
            hook.remove()
        norms = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        return _Known(CALL + total * (self.whole if norms and len(layers) > self.layers else 1.0))


def known_times(prepared: Mapping[str, Prepared], conditions: Conditions) -> dict[str, Timing]:
    """A timer for networks of the fake engine: exact, three rounds."""
    times = {name: network.milliseconds for name, network in prepared.items() if isinstance(network, _Known)}
    return {name: Timing((time,) * 3) for name, time in times.items()}


def fake_model(engine: FakeEngine | None = None, cache: LatencyCache | None = None, batch: int = 1) -> LatencyModel:
    """Times of a fake engine."""
    return LatencyModel(engine or FakeEngine(), Conditions(batch), cache or LatencyCache(), known_times)
