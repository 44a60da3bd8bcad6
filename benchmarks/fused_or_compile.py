"""The straight line of polyadic 0.1 (``polyadic.fused``) beside ``torch.compile`` with freezing, on a processor.

    python benchmarks/fused_or_compile.py

ResNet-20 and ResNet-56 with CP chains at half of the multiply-accumulates (a uniform plan, random weights, batch norms
folded, channels-last) at batches of 1, 8 and 32. All forms of a network take turns on one thread, by the processor's
own time; each is compiled once and timed twice. They are

- ``plain``: the modules as they are, one call after the other;
- ``fused``: the straight line, which version 0.1 alone has; where it is absent the other forms are timed;
- ``compile``: ``torch.compile`` with ``torch._inductor.config.freezing``, without gradients;
- ``compile, C++``: the same with ``torch._inductor.config.cpp_wrapper``: the calls between kernels are C++, too;
- ``ahead of time``: exported and compiled to a file (AOTInductor) with freezing; of ResNet-20 alone.

A ratio is the median over rounds of the time of ``fused`` over that of the form: above 1 the form is faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._inductor.config
from record import record
from torch import Tensor, nn

import polyadic
from polyadic.engines import Timing, draw_weights, time_interleaved
from polyadic.models import load_model
from polyadic.pipeline import estimate_cost
from polyadic.surgery import copy_model, rebuild

NETWORKS = ("polyadic:resnet20", "polyadic:resnet56")
AHEAD = "polyadic:resnet20"
BATCHES = (1, 8, 32)
RUNS = 2
LAST: dict[str, Any] = {"memory_format": torch.channels_last}
STRAIGHT_LINE = getattr(polyadic, "fused", None)
Pass = Callable[[Tensor], Any]


def main() -> None:
    """Measure all cases and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=2.0, help="of further rounds, for each form")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch._inductor.config.freezing = True
    began, rows = time.process_time(), []
    for name in NETWORKS:
        for batch in BATCHES:
            rows.append(measure_case(name, batch, given.rounds, given.seconds))
            print(rows[-1], flush=True)
            figures = {"ratios": "time of fused over time of the form", "medians": medians_of(rows), "cases": rows}
            print(record("fused_or_compile", {**figures, "cpu_seconds": round(time.process_time() - began, 1)}))
    print(medians_of(rows))


def measure_case(name: str, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds and ratios of one network at one batch, in all forms, twice."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    images = torch.randn(batch, 3, 32, 32).to(**LAST)
    network, layers = chain_network(name, images[:1])
    forms: dict[str, Pass] = {"plain": network}
    if STRAIGHT_LINE is not None:
        forms["fused"] = STRAIGHT_LINE(network, images)
    builders = {"compile": compile_network, "compile, C++": compile_to_cpp}
    builders |= {"ahead of time": compile_ahead} if name == AHEAD else {}
    spent = {}
    for form, build in builders.items():
        began = time.perf_counter()
        forms[form] = build(network, images)
        spent[form] = round(time.perf_counter() - began, 1)
    with torch.inference_mode():
        wanted = network(images)
        for form, run in forms.items():
            torch.testing.assert_close(run(images), wanted, rtol=1e-3, atol=1e-4, msg=form)
        passes = {form: (lambda run=run: run(images)) for form, run in forms.items()}
        runs = [time_interleaved(passes, rounds=rounds, seconds=seconds, clock=time.process_time) for _ in range(RUNS)]
    return {
        "network": name,
        "batch": batch,
        "layers": layers,
        "compile_seconds": spent,
        "ms": [{form: round(timing.median, 3) for form, timing in times.items()} for times in runs],
        "ratio": [ratios_to_fused(times) for times in runs],
    }


def chain_network(name: str, image: Tensor) -> tuple[nn.Module, int]:
    """The network with CP chains and random weights, batch norms folded, and how many layers became chains."""
    dense = load_model(name).model.eval()
    found = estimate_cost(dense, image, budget=["macs=50%"], formats=("cp-epc",))
    network = draw_weights(rebuild(copy_model(dense), found.plan)).eval()
    return polyadic.fold_and_merge(network, image).model.to(**LAST), len(found.plan.choices)


def compile_network(network: nn.Module, images: Tensor) -> Pass:
    """``network`` compiled for such images, apart from what was compiled of it before."""

    def run(x: Tensor) -> Any:
        return network(x)

    own = types.FunctionType(run.__code__.replace(), run.__globals__, closure=run.__closure__)
    compiled: Pass = torch.compile(own, dynamic=False)
    with torch.inference_mode():
        compiled(images)
    return compiled


def compile_to_cpp(network: nn.Module, images: Tensor) -> Pass:
    """The same with calls from C++."""
    with torch._inductor.config.patch(cpp_wrapper=True):
        return compile_network(network, images)


def compile_ahead(network: nn.Module, images: Tensor) -> Pass:
    """The same from a file."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        program = torch.export.export(network, (images,))
        file = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "network.pt2"))
        loaded: Pass = torch._inductor.aoti_load_package(file)
    return loaded


def ratios_to_fused(times: dict[str, Timing]) -> dict[str, float]:
    """How many times faster than ``fused`` each other form is; nothing where there is no ``fused``."""
    return {
        form: round(timing.times_faster_than(times["fused"]).median, 3)
        for form, timing in times.items()
        if "fused" in times and form != "fused"
    }


def medians_of(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The median ratio over all cases of each form, in each run."""
    runs = [[row["ratio"][run] for row in rows] for run in range(RUNS)]
    return [
        {form: round(statistics.median(case[form] for case in run if form in case), 3) for form in run[0]}
        for run in runs
    ]


if __name__ == "__main__":
    main()
