"""How long a network takes with other layers in it: one measurement of the whole, and one of each candidate block.

    time(plan) = time(dense network) + sum over the layers of the plan of (time(chain) - time(dense layer)).

Each chain is measured against the dense layer that it would replace, in turns, each in a graph of its own between two
ReLUs. What both graphs share (the cost of a call, reorders of the image at the borders) cancels in the difference, so
small layers are told apart although a call alone costs about 10 microseconds.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from polyadic.engines.engine import Engine, Prepared
from polyadic.engines.latency_cache import LatencyCache, Measured
from polyadic.engines.onnx_graph import chain_graph, input_shape, is_writable
from polyadic.engines.timing import Timing, time_interleaved
from polyadic.errors import EngineError
from polyadic.layers import Inputs, as_arguments, empty_chain, first_samples, sample_shapes
from polyadic.schema import Conditions, ConvSpec, Stage
from polyadic.storage import content_key

Timer = Callable[[Mapping[str, Prepared], Conditions], Mapping[str, Timing]]
"""Times several prepared networks in turns."""

Network = TypeVar("Network", bound=nn.Module)

_ROUNDS, _SECONDS = 21, 0.06
_MEASUREMENTS = 3  # of a whole network
_ATTEMPTS, _UNSTEADY = 4, 0.1  # at blocks whose noise is more than a tenth of the dense layer's time
_AT_ONCE = 8  # chains in turns with one dense layer: their weights are in memory together


def time_in_turns(prepared: Mapping[str, Prepared], conditions: Conditions) -> dict[str, Timing]:
    """Times of passes: on one thread those of the processor, which no other program stretches, else by the clock."""
    alone = conditions.threads == 1 and conditions.device == "cpu"
    clock = time.process_time if alone else time.perf_counter
    passes = {name: network.once for name, network in prepared.items()}
    return time_interleaved(passes, rounds=_ROUNDS, seconds=_SECONDS, clock=clock)


@runtime_checkable
class TakesGraphs(Protocol):
    """An engine to which networks go as ONNX graphs."""

    def prepare_graph(self, graph: bytes, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        """A graph that is written already, made ready."""


@dataclass(frozen=True)
class LatencyModel:
    """Times on one engine under given conditions, each measured once.

    Attributes:
        engine: runs the networks.
        conditions: batch, threads, precision, device.
        cache: of what was measured. To go on with a run that was interrupted, keep it on disk.
        timer: takes the times.
    """

    engine: Engine
    conditions: Conditions = field(default_factory=Conditions)
    cache: LatencyCache = field(default_factory=LatencyCache, repr=False, compare=False)
    timer: Timer = field(default=time_in_turns, repr=False, compare=False)

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.engine.name} {self.engine.version}, {self.conditions}"

    def check(self) -> None:
        """Say whether blocks can be timed so.

        Raises:
            EngineError: the engine is missing or refuses the conditions; or they ask for a quantized network.
        """
        if self.conditions.precision == "int8":
            raise EngineError(
                "blocks are timed with the weights that they have before quantization; got precision int8: search in "
                "float32 or bfloat16, then quantize"
            )
        self.engine.check(self.conditions)

    def time_blocks(
        self, dense: ConvSpec | tuple[Stage, ...], chains: Sequence[tuple[Stage, ...]], input_size: tuple[int, ...]
    ) -> tuple[Measured, ...]:
        """Times of ``chains``, each against what it would replace.

        Args:
            dense: the layer, or the chain that stands in its place by now.
            chains: what could take its place.
            input_size: spatial, of one sample; of fully connected layers the positions.

        Raises:
            EngineError: the engine does not run one of them.
            StorageError: the cache cannot be written.
        """
        dense = dense[0] if isinstance(dense, tuple) and len(dense) == 1 and isinstance(dense[0], ConvSpec) else dense
        missing = [c for c in dict.fromkeys(chains) if self.cache.get(self._key(dense, c, input_size)) is None]
        for at in range(0, len(missing), _AT_ONCE):
            self._measure(dense, missing[at : at + _AT_ONCE], input_size)
        found = [self.cache.get(self._key(dense, chain, input_size)) for chain in chains]
        return tuple(measured for measured in found if measured is not None)

    def time_network(self, model: nn.Module, example: Inputs) -> float:
        """Milliseconds of one pass of a whole network over a batch of samples like the first of ``example``.

        Raises:
            EngineError: the engine does not run it.
            StorageError: the cache cannot be written.
        """
        shapes = sample_shapes(example)
        what = (self._place, "network", _structure(model), shapes[0] if len(shapes) == 1 else shapes)
        known = self.cache.get(what)
        if known is None:
            time = _least(self._time({"dense": self.prepare(model, example)})["dense"])
            known = self.cache.add(what, Measured(time, time, 0.0))
        return known.dense

    def prepare(self, model: nn.Module, example: Inputs) -> Prepared:
        """A whole network made ready for a batch of samples like the first of ``example``.

        Raises:
            EngineError: the engine does not run it.
        """
        batch = tuple(self._repeated(tensor) for tensor in as_arguments(model, first_samples(example, 1)))
        return self.engine.prepare(model, batch, self.conditions)

    def _repeated(self, tensor: Tensor) -> Tensor:
        """One sample as often as the batch is long."""
        tensor = tensor.cpu().float() if tensor.is_floating_point() else tensor.cpu()
        return tensor.expand(self.conditions.batch, *tensor.shape[1:]).contiguous()

    def compare(self, dense: Prepared, network: Prepared) -> Measured:
        """A whole network against the dense one, in turns; measured anew each time.

        Three times over, and the middle one counts: a busy moment of the machine may last as long as one measurement.
        The noise is at least half of what the three differ by.

        Raises:
            EngineError: the engine fails on one of them.
        """
        pair = {"dense": dense, "chain": network}
        timings = (self._time(pair) for _ in range(_MEASUREMENTS))
        found = sorted((compare_times(t["dense"], t["chain"]) for t in timings), key=lambda m: m.chain / m.dense)
        middle = found[len(found) // 2]
        spread = middle.dense * (found[-1].chain / found[-1].dense - found[0].chain / found[0].dense) / 2.0
        return replace(middle, noise=max(middle.noise, spread))

    def _measure(
        self, dense: ConvSpec | tuple[Stage, ...], chains: Sequence[tuple[Stage, ...]], input_size: tuple[int, ...]
    ) -> None:
        prepared = {"dense": self._prepare_block(dense if isinstance(dense, tuple) else (dense,), input_size)}
        prepared |= {str(at): self._prepare_block(chain, input_size) for at, chain in enumerate(chains)}
        found: list[Measured] = []
        for _ in range(_ATTEMPTS):  # something else may run on this machine, and may have ended by the next one
            times = self._time(prepared)
            again = [compare_times(times["dense"], times[str(at)]) for at in range(len(chains))]
            found = [min(pair, key=lambda one: one.noise) for pair in zip(found or again, again, strict=True)]
            if all(one.noise <= _UNSTEADY * one.dense for one in found):
                break
        for chain, measured in zip(chains, found, strict=True):
            self.cache.add(self._key(dense, chain, input_size), measured)

    def _time(self, prepared: Mapping[str, Prepared]) -> Mapping[str, Timing]:
        with self.engine.at_work():
            return self.timer(prepared, self.conditions)

    def _prepare_block(self, stages: tuple[Stage, ...], input_size: tuple[int, ...]) -> Prepared:
        """A chain between two ReLUs with random weights."""
        engine, conditions = self.engine, self.conditions
        example = torch.randn(input_shape(stages, conditions.batch, input_size), generator=_generator())
        if isinstance(engine, TakesGraphs) and is_writable(stages):
            graph = chain_graph([stages], conditions.batch, input_size)
            with engine.at_work():
                return engine.prepare_graph(graph, (example,), conditions)
        chain = draw_weights(empty_chain(stages, torch.empty(0)))
        block = chain if len(chain) > 1 else chain[0]  # as it stands in a network
        return engine.prepare(nn.Sequential(nn.ReLU(), block, nn.ReLU()), example, conditions)

    def _key(
        self, dense: ConvSpec | tuple[Stage, ...], chain: tuple[Stage, ...], input_size: tuple[int, ...]
    ) -> tuple[Any, ...]:
        """Everything that decides the time of a block."""
        return (self._place, "block", dense, chain, input_size)

    @property
    def _place(self) -> tuple[str, ...]:
        card = (torch.cuda.get_device_name(),) if self.conditions.device == "cuda" else ()
        return (self.engine.name, self.engine.version, str(self.conditions), *card)


def compare_times(dense: Timing, chain: Timing) -> Measured:
    """Two timings of the same rounds as one record.

    Whatever else a machine does only ever adds time, so the lower quartile is steadier than the median. The noise is
    two standard errors of the median difference of a round.
    """
    differences = Timing(tuple(a - b for a, b in zip(dense.samples, chain.samples, strict=True)))
    low, high = differences.quartiles
    error = 0.93 * (high - low) / len(differences.samples) ** 0.5  # 1.253 sigma / sqrt(n), sigma = range / 1.349
    return Measured(_least(dense), _least(chain), 2.0 * error)


def draw_weights(model: Network, seed: int = 0) -> Network:
    """``model`` with numbers of the scale 1 / sqrt(inputs) in all its weights, in place.

    Weights that were never set may be denormal, which processors multiply slowly.
    """
    generator = _generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(parameter.numel() // max(parameter.shape[0], 1), 1) if parameter.ndim else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return model


def interpolate_time(known: Mapping[int, float], macs: int) -> float:
    """A value on straight lines between known points, flat beyond the ends.

    Args:
        known: values by multiply-accumulates.
        macs: where the value is asked for; at a known point it is the known value.

    Raises:
        ValueError: nothing is known.
    """
    if not known:
        raise ValueError("a curve goes through at least one measured point; got none")
    points = sorted(known)
    at = bisect_left(points, macs)
    if at == 0 or at == len(points):
        return known[points[min(at, len(points) - 1)]]
    low, high = points[at - 1], points[at]
    share = (macs - low) / (high - low)
    return known[low] + share * (known[high] - known[low])


def _least(timing: Timing) -> float:
    return timing.quartiles[0]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _structure(model: nn.Module) -> str:
    """A digest of what a network is built of; its weights do not change its time."""
    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    return content_key((str(model), shapes))
