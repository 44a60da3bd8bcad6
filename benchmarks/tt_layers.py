"""Time and memory of each tensor-train layer of *Ultimate tensorization*: by cores, dense, and against a plain layer.

    python benchmarks/tt_layers.py --threads 1

Every distinct layer of the networks at its own input size, in float32, for batches of 1 and 32 images. Seconds are
those of the processor, so that other work on the machine does not count (with one thread they are those of the clock on
an idle machine); the ways take turns in every round, and the median of the rounds stands. ``forward`` is inference: in
the dense way the kernel is kept from pass to pass. ``training`` is a forward and a backward pass.

Peak memory is how far the resident set of a process that does nothing else rises during its first pass, plus the input.
It stands beside what ``TTLayer.footprint`` expects. Batches whose passes by cores are expected to exceed ``--memory``
are left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record
from torch import Tensor, nn

from polyadic.layers import TTLayer
from polyadic.models import ZOO
from polyadic.schema import TTSpec, Way

NAME = "tt_layers"
NETWORKS = ("ut-tt-conv-3x", "ut-naive-2x", "ut-tt-conv-tt-fc-42x", "ut-tt-conv-tt-fc-83x")
BATCHES = (1, 32)
WAYS: tuple[Way, ...] = ("cores", "dense")
TASKS = ("forward", "training")


@dataclass(frozen=True)
class Case:
    """A layer where it stands in a network."""

    spec: TTSpec
    size: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its key in the results."""
        dense, size = self.spec.dense, "x".join(str(n) for n in self.size)
        kind = f"conv {dense.in_channels}-{dense.out_channels} at {size}" if self.size else "linear "
        naive = ", naive" if 1 in self.spec.row_modes else ""
        channels = "" if self.size else f"{dense.in_channels}-{dense.out_channels}"
        return f"{kind}{channels}, ranks {'-'.join(str(r) for r in self.spec.ranks)}{naive}"

    def layer(self, way: Way) -> TTLayer:
        """The layer in a way, with cores drawn at random."""
        torch.manual_seed(0)
        train = TTLayer(self.spec)
        train.run_in(way)
        return train

    def input(self, batch: int) -> Tensor:
        """A batch (B, S, ...)."""
        return torch.randn(batch, self.spec.in_channels, *self.size, generator=torch.Generator().manual_seed(1))


def cases() -> list[Case]:
    """Distinct layers of the networks, with the sizes of their inputs."""
    found: dict[Case, None] = {}
    for name in NETWORKS:
        network = ZOO[name].build(10).eval()
        for layer in network.modules():
            if isinstance(layer, TTLayer):
                layer.register_forward_pre_hook(_noting(found))
        with torch.no_grad():
            network(torch.zeros(1, 3, 32, 32))
    return list(found)


def _noting(found: dict[Case, None]) -> Callable[[nn.Module, Any], None]:
    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(layer, TTLayer):
            found[Case(layer.spec, tuple(inputs[0].shape[2:]))] = None

    return note


def run_once(layer: nn.Module, x: Tensor, task: str) -> None:
    """One pass."""
    if task == "forward":
        with torch.no_grad():
            layer(x)
    else:
        given = x.detach().requires_grad_()
        torch.autograd.grad(layer(given).sum(), [given, *layer.parameters()])


def seconds(case: Case, batch: int, task: str, rounds: int) -> dict[str, Any]:
    """Median time of each way and of the plain layer, in turns."""
    x = case.input(batch)
    layers: dict[str, nn.Module] = {way: case.layer(way) for way in WAYS}
    layers["plain"] = case.layer("dense").to_dense()
    spent: dict[str, list[float]] = {way: [] for way in layers}
    for number in range(1 + rounds):
        for way, layer in layers.items():
            began, passes = time.process_time(), 0
            while passes == 0 or time.process_time() - began < 0.02:
                run_once(layer, x, task)
                passes += 1
            if number:  # the first round warms up
                spent[way].append((time.process_time() - began) / passes)
    medians = {way: statistics.median(times) for way, times in spent.items()}
    ratios = {f"{way}_to_plain": medians[way] / medians["plain"] for way in WAYS}
    return {"ms": {way: 1e3 * value for way, value in medians.items()}, **ratios}


def peak(case: Case, batch: int, task: str, way: Way | None) -> int:
    """Bytes that the first pass holds at its fullest, the input included, measured in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_peak_in_child, args=(case, batch, task, way, there))
    child.start()
    there.close()
    found = int(here.recv())
    child.join()
    return found


def _peak_in_child(case: Case, batch: int, task: str, way: Way | None, out: Connection) -> None:
    x = case.input(batch)
    layer = case.layer(way) if way is not None else case.layer("dense").to_dense()
    run_once(nn.Conv2d(4, 4, 3), torch.zeros(1, 4, 8, 8), task)  # what libraries allocate at their first use
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident set starts anew at the present one
    before = _resident("VmRSS")
    run_once(layer, x, task)
    out.send(_resident("VmHWM") - before + x.numel() * x.element_size())


def _resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(case: Case, batch: int, rounds: int) -> dict[str, Any]:
    """Memory first: a process in which autograd has run cannot be forked."""
    figures: dict[str, Any] = {}
    expected = case.layer("auto").footprint(case.input(batch))
    for task in TASKS:
        figures[task] = {"peak_bytes": {way or "plain": peak(case, batch, task, way) for way in (None, *WAYS)}}
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_times_in_child, args=(case, batch, rounds, there))
    child.start()
    there.close()
    for task, times in here.recv().items():
        figures[task] |= times
    child.join()
    return {**figures, "footprint": vars(expected)}


def _times_in_child(case: Case, batch: int, rounds: int, out: Connection) -> None:
    found = {}
    for task in TASKS:
        times, auto = seconds(case, batch, task, rounds), case.layer("auto")
        run_once(auto, case.input(batch), task)
        found[task] = {**times, "auto": next(iter(auto._faster.values()))}
    out.send(found)


def main() -> None:
    """Measure what is missing and write each layer as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=float, default=4.0, help="GB that a pass by cores may be expected to hold")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in the results already")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    path = RESULTS / f"{NAME}.json"
    layers = json.loads(path.read_text())["layers"] if path.exists() and not given.fresh else {}
    for case in cases():
        if case.name in layers:
            continue
        figures: dict[str, Any] = {
            "params": case.spec.params,
            "dense_params": case.spec.dense.params,
            "macs_by_cores": sum(step.macs for step in case.spec.steps(case.size or (1,))),
            "dense_macs": case.spec.dense.macs(case.size or (1,)),
            "batches": {},
        }
        for batch in BATCHES:
            if case.layer("auto").footprint(case.input(batch)).cores_saved_bytes <= given.memory * 1e9:
                figures["batches"][str(batch)] = measure(case, batch, given.rounds)
        layers[case.name] = figures
        print(case.name, json.dumps(figures), flush=True)
        record(NAME, {"layers": layers})


if __name__ == "__main__":
    main()
