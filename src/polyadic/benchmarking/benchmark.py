"""Networks timed against each other on every engine: what fewer multiply-accumulates are worth in milliseconds."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from polyadic.benchmarking.footprint import HOW, Footprints
from polyadic.benchmarking.graphs import Graphs, fold_networks
from polyadic.benchmarking.options import BenchOptions, BenchProgress, OnProgress
from polyadic.engines import (
    Conditions,
    Engine,
    OnnxRuntime,
    OpenVino,
    Prepared,
    Timing,
    engine_named,
    environment,
    tensors_of,
    time_interleaved,
)
from polyadic.errors import EngineError
from polyadic.layers import evaluation_mode
from polyadic.schema import BenchNetwork, BenchResult, BenchRow
from polyadic.storage import json_bytes, write_together
from polyadic.surgery import MACS_CONVENTION, network_cost


def benchmark(
    networks: Mapping[str, nn.Module],
    example: Tensor,
    options: BenchOptions | None = None,
    on_progress: OnProgress | None = None,
) -> BenchResult:
    """Time networks on engines; within one engine and one set of conditions their passes take turns.

    An engine that is not installed, or that refuses the conditions or a network, is named with its reason, and all
    others are measured.

    Args:
        networks: by name; speed-ups are over the first one. They are left as they were.
        example: samples (N, ...), repeated up to each batch. What they show does not matter for times.
        options: engines, batches and the rest.
        on_progress: told before each step.

    Raises:
        EngineError: there is no network.
        LayerError: a network does not run on the example.
    """
    if not networks:
        raise EngineError("a benchmark takes at least one network; got none")
    with _keep_threads(), Footprints() as footprints:
        return _Bench(networks, example, options or BenchOptions(), on_progress, footprints).run()


def write_bench(result: BenchResult, folder: Path, beside: Sequence[tuple[str, bytes]] = ()) -> list[Path]:
    """Write ``bench.json`` to ``folder``, and other files beside it: all of them or none; say where they are.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    contents = {
        folder / result.file: json_bytes(result.to_json()),
        **{folder / name: content for name, content in beside},
    }
    write_together(contents)
    return list(contents)


class _Bench:
    """One benchmark while it runs."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        example: Tensor,
        options: BenchOptions,
        on_progress: OnProgress | None,
        footprints: Footprints,
    ) -> None:
        self.networks = networks
        self.example = example
        self.options = options
        self.show = on_progress or (lambda progress: None)
        self.show(BenchProgress(0, 1, "batch norms are folded" if options.fold else ""))
        self.of_torch, self.folding = fold_networks(networks, example) if options.fold else (dict(networks), {})
        self.footprints = footprints
        self.graphs = Graphs(networks, one_batch=len(options.batches) == 1)
        self.costs = {name: network_cost(network, example) for name, network in networks.items()}
        self.reference = next(iter(networks))
        self.done = self.total = 0

    def run(self) -> BenchResult:
        engines = [engine_named(name) for name in self.options.engines]
        skipped = [(engine.name, reason) for engine in engines if (reason := engine.missing()) is not None]
        planned: list[tuple[Engine, Conditions]] = []
        for engine in engines:
            if engine.missing() is None:
                for conditions in self._conditions(engine):
                    reason = engine.refuses(conditions)
                    if reason is None:
                        planned.append((engine, conditions))
                    else:
                        skipped.append((f"{engine.name}, {conditions.device}, {conditions.precision}", reason))
        self.total = len(planned) * len(self.networks) * 2
        rows = [row for engine, conditions in planned for row in self._rows(engine, conditions)]
        self.show(BenchProgress(self.total, self.total, ""))
        return BenchResult(
            networks=tuple(self._network(name) for name in self.networks),
            rows=tuple(rows),
            skipped=tuple(dict.fromkeys(skipped)),
            input_shape=tuple(self.example.shape[1:]),
            settings={
                "rounds": self.options.rounds,
                "seconds": self.options.seconds,
                "clock": self.options.clock,
                "folding for PyTorch": self.folding,
                "inputs": "samples of the example, repeated up to each batch",
                "memory": HOW if self.options.memory else "not measured",
                "macs_convention": MACS_CONVENTION,
            },
            environment={
                **environment(engine for engine in engines if engine.missing() is None),
                "threads": self.options.threads,
            },
        )

    def _conditions(self, engine: Engine) -> Iterator[Conditions]:
        options = self.options
        for device in options.devices:
            precisions = options.precisions or engine.usual_precisions(device)
            for precision, batch in product(precisions, options.batches):
                yield Conditions(batch, options.threads, precision, device)

    def _rows(self, engine: Engine, conditions: Conditions) -> list[BenchRow]:
        """All networks on one engine: made ready, timed in turns, weighed."""
        batch = _repeat(self.example, conditions.batch)
        prepared: dict[str, Prepared] = {}
        known: dict[str, dict[str, Any]] = {}
        for name in self.networks:
            self._step(f"{name} for {engine.name}, {conditions}")
            known[name] = {
                "network": name,
                "engine": engine.name,
                "layout": engine.layout,
                "conditions": conditions,
            }
            try:
                prepared[name], known[name]["ready_s"] = self._prepared(engine, name, batch, conditions)
                known[name]["difference"] = self._difference(engine, prepared[name], name, batch)
            except EngineError as error:
                prepared.pop(name, None)
                known[name]["reason"] = str(error)
        try:
            timings = self._timings(engine, prepared)
        except EngineError as error:
            timings = {}
            for name in prepared:
                known[name]["reason"] = str(error)
        prepared.clear()
        rows = []
        for name in self.networks:
            self._step(f"memory of {name} on {engine.name}, {conditions}" if self.options.memory else "")
            if name not in timings:
                rows.append(BenchRow(**known[name]))
                continue
            row = _timed_row(known[name], timings[name], timings.get(self.reference), self._reduction(name))
            rows.append(replace(row, **self._weight(engine, name, batch, conditions)))
        return rows

    def _timings(self, engine: Engine, prepared: Mapping[str, Prepared]) -> dict[str, Timing]:
        """Times of all networks that are ready, taken in turns."""
        if not prepared:
            return {}
        clock = time.process_time if self.options.clock == "process" else time.perf_counter
        passes = {name: ready.once for name, ready in prepared.items()}
        with engine.at_work():
            return time_interleaved(passes, rounds=self.options.rounds, seconds=self.options.seconds, clock=clock)

    def _prepared(self, engine: Engine, name: str, batch: Tensor, conditions: Conditions) -> tuple[Prepared, float]:
        """A network made ready, and the seconds that this and its first pass took: no other sees what is compiled."""
        graph = self.graphs.of(name, batch) if isinstance(engine, OnnxRuntime | OpenVino) else None
        began = time.perf_counter()
        if isinstance(engine, OnnxRuntime | OpenVino) and graph is not None:
            with engine.at_work(lambda: engine.culprit_in(self.networks[name], (batch,), conditions)):
                prepared = engine.prepare_graph(graph, (batch,), conditions)
        else:
            prepared = engine.prepare(self.of_torch[name], batch, conditions)
        with engine.at_work(lambda: engine.culprit_in(self.networks[name], (batch,), conditions)):
            prepared.once()
        return prepared, round(time.perf_counter() - began, 3)

    def _difference(self, engine: Engine, prepared: Prepared, name: str, batch: Tensor) -> float | None:
        """The largest difference to PyTorch's float32 answers, over the largest of these; None if it is no number."""
        network = self.networks[name]
        with evaluation_mode(network), torch.no_grad():
            device = next(iter(network.state_dict().values()), batch).device
            wanted = [tensor.float().cpu() for tensor in tensors_of(network(batch.to(device)))]
        with engine.at_work():
            pairs = list(zip(prepared.answer(batch), wanted, strict=True))
            largest = max((float((found - right).abs().max()) for found, right in pairs), default=0.0)
        scale = max((float(right.abs().max()) for right in wanted), default=0.0) or 1.0
        return largest / scale if math.isfinite(largest / scale) else None

    def _weight(self, engine: Engine, name: str, batch: Tensor, conditions: Conditions) -> dict[str, Any]:
        """Bytes of the file and of the memory."""
        loads = self.graphs.of(name, batch) if isinstance(engine, OnnxRuntime | OpenVino) else self.of_torch[name]
        stored = len(loads) if isinstance(loads, bytes) else _weight_bytes(loads)
        memory = self.footprints.of(engine, loads, batch, conditions) if self.options.memory else {}
        return {"file_bytes": stored, **memory}

    def _network(self, name: str) -> BenchNetwork:
        cost = self.costs[name]
        return BenchNetwork(name, cost.params, cost.macs, self._reduction(name))

    def _reduction(self, name: str) -> float:
        return self.costs[self.reference].macs / max(self.costs[name].macs, 1)

    def _step(self, message: str) -> None:
        self.show(BenchProgress(self.done, self.total, message))
        self.done += 1


def _timed_row(row: dict[str, Any], timing: Timing, reference: Timing | None, mac_reduction: float) -> BenchRow:
    """A row with its times; ``reference`` is the first network's timing of the same rounds, if it has one."""
    low, high = timing.quartiles
    times: dict[str, Any] = {
        "median_ms": timing.median,
        "low_ms": low,
        "high_ms": high,
        "samples_ms": timing.samples,
    }
    if reference is not None:
        ratio = timing.times_faster_than(reference)
        times |= {"speed_up": ratio.median, "speed_up_low": ratio.low, "speed_up_high": ratio.high}
        if mac_reduction != 1.0:
            times["realised_share"] = ratio.median / mac_reduction
    return BenchRow(**row, **times)


def _repeat(example: Tensor, batch: int) -> Tensor:
    """``batch`` samples, those of the example over and over."""
    return example[torch.arange(batch) % len(example)].contiguous()


def _weight_bytes(network: nn.Module) -> int:
    """Bytes of the weights as a safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    return len(safetensors.torch.save(tensors))


@contextlib.contextmanager
def _keep_threads() -> Iterator[None]:
    """Torch's number of threads is that of the whole process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
