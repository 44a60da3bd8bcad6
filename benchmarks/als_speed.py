"""One sweep of alternating least squares against TensorLy's and pyttb's, interleaved, at equal factors.

    python benchmarks/als_speed.py --threads 2

Seconds per sweep are the difference of a long and a short call over the sweeps between them, so that checks and set-up
do not count; the median over the rounds. Each size is measured in a process of its own: what was allocated before
decides how dear fresh memory is. Also the machine's own rate for the product of sizes 4608 x 512 x 500 in the
same run, and what share of it the two large products of a sweep reach when the whole sweep is charged to them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pyttb
import tensorly
import torch
from record import record
from tensorly.decomposition import parafac

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors, sweep
from polyadic.decomposition.cp_als import least_squares

tensorly.set_backend("pytorch")


def ours(X: torch.Tensor, cp: CPTensor) -> Callable[[int], None]:
    """Polyadic's sweeps (its own loop, without the set-up)."""
    unit = UnitTensors.of(X[None].double(), X.dtype)

    def run(sweeps: int) -> None:
        point = CPTensor(tuple(U[None] for U in cp.factors))
        for _ in range(sweeps):
            point, _ = sweep(unit, point, least_squares)

    return run


def theirs(X: torch.Tensor, cp: CPTensor) -> Callable[[int], None]:
    """TensorLy's parafac on its torch backend."""
    weights = torch.ones(cp.rank, dtype=X.dtype)

    def run(sweeps: int) -> None:
        start = (weights, [U.clone() for U in cp.factors])
        parafac(X, cp.rank, n_iter_max=sweeps, init=start, tol=0)

    return run


def toolbox(X: torch.Tensor, cp: CPTensor) -> Callable[[int], None]:
    """The cp_als of pyttb, which knows float64 only."""
    tensor = pyttb.tensor(X.double().numpy())

    def run(sweeps: int) -> None:
        start = pyttb.ktensor([U.double().numpy().copy() for U in cp.factors])
        pyttb.cp_als(tensor, cp.rank, stoptol=0, maxiters=sweeps, init=start, printitn=0)

    return run


def seconds_per_sweep(run: Callable[[int], None], short: int, long: int) -> float:
    """From the difference of two calls, after a pause in which the threads of the library before fall asleep."""
    time.sleep(0.3)
    run(short)
    moments = [time.perf_counter()]
    for sweeps in (short, long):
        run(sweeps)
        moments.append(time.perf_counter())
    return ((moments[2] - moments[1]) - (moments[1] - moments[0])) / (long - short)


def compare(
    shape: tuple[int, ...], rank: int, dtype: torch.dtype, sweeps: tuple[int, int], rounds: int
) -> dict[str, Any]:
    """The three, interleaved."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(*shape, generator=generator, dtype=dtype)
    cp = CPTensor(tuple(torch.randn(size, rank, generator=generator, dtype=dtype) for size in shape))
    runs = {"polyadic": ours(X, cp), "tensorly": theirs(X, cp), "pyttb": toolbox(X, cp)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    rows, C, out = X.reshape(-1, shape[-1]), cp.factors[-1], X.new_empty(X.numel() // shape[-1], rank)
    product: list[float] = []
    for run in runs.values():
        run(1)
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds_per_sweep(run, *sweeps))
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(rows, C, out=out)
            product.append(time.perf_counter() - began)
    medians = {name: median(values) for name, values in times.items()}
    return {
        "shape": shape,
        "rank": rank,
        "dtype": str(dtype),
        "milliseconds_per_sweep": {name: round(1e3 * value, 3) for name, value in medians.items()},
        "all_milliseconds": {name: [round(1e3 * value, 3) for value in values] for name, values in times.items()},
        "one_product_milliseconds": round(1e3 * median(product), 3),
        "share_of_product_rate": round(2 * median(product) / medians["polyadic"], 3),
        "speedup_over": {name: round(medians[name] / medians["polyadic"], 2) for name in ("tensorly", "pyttb")},
    }


SIZES = {"large": ((9, 512, 512), 500, torch.float32, (1, 4)), "small": ((9, 64, 64), 64, torch.float64, (5, 105))}


def main() -> None:
    """Both sizes, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=SIZES, help="measure this one and print it")
    options = parser.parse_args()
    if options.size:
        torch.set_num_threads(options.threads)
        print(json.dumps(compare(*SIZES[options.size], options.rounds)))
        return
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--threads", str(options.threads), "--rounds", str(options.rounds)]
        done = subprocess.run([*command, "--size", size], capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print({key: value for key, value in rows[-1].items() if key != "all_milliseconds"})
    torch.set_num_threads(options.threads)
    print(record("als_speed", {"sizes": rows}))


if __name__ == "__main__":
    main()
