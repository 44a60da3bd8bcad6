"""Peak memory of every CP solver on the largest kernels, beyond torch and the kernel itself.

    python benchmarks/scale.py

512 x 512 x 3 x 3 at rank 500 as a tensor of order 3 (9 x 512 x 512) and of order 4 (3 x 3 x 512 x 512), random values
(they do not matter for memory), few sweeps (neither do they). Every case is a process of its own, with its own peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    EPCOptions,
    KLMOptions,
    LMOptions,
    RidgeOptions,
    StableOptions,
    cp_als,
    cp_bounded,
    cp_epc,
    cp_klm,
    cp_lm,
    stable_cp,
)

SHAPES = {"order 3": (9, 512, 512), "order 4": (3, 3, 512, 512)}
RANK = 500


def corrected(solve: Callable[..., Any]) -> Callable[[Tensor], Any]:
    """A solver that starts from factors, after one sweep of ALS."""
    return lambda K: solve(K, cp_als(K, RANK, ALSOptions(max_sweeps=1)).factors)


SOLVERS: dict[str, Callable[[Tensor], Any]] = {
    "cp_als": lambda K: cp_als(K, RANK, ALSOptions(max_sweeps=3)),
    "cp_als float32": lambda K: cp_als(K, RANK, ALSOptions(max_sweeps=3, precision="float32")),
    "stable_cp": lambda K: stable_cp(
        K, RANK, StableOptions(RidgeOptions(max_sweeps=2, weakest=1e-4), BoundedOptions(max_sweeps=2))
    ),
    "cp_epc": corrected(lambda K, cp: cp_epc(K, cp, EPCOptions(error_slack=0.01, max_sweeps=3))),
    "cp_bounded": corrected(lambda K, cp: cp_bounded(K, cp, BoundedOptions(max_sweeps=3))),
    "cp_lm": lambda K: cp_lm(K, RANK, LMOptions(max_steps=2)),
    "cp_klm": corrected(lambda K, cp: cp_klm(K, cp, KLMOptions(max_steps=2))),
}


def peak_bytes() -> int:
    """Largest resident set of this process so far (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(solver: str, shape: str, threads: int) -> dict[str, Any]:
    """One case, in this process."""
    torch.set_num_threads(threads)
    warm = torch.randn(256, 256, dtype=torch.float64)
    torch.linalg.eigh(warm @ warm.mT)  # loads the linear algebra libraries before the reading
    K = torch.randn(SHAPES[shape], generator=torch.Generator().manual_seed(0))
    before, began = peak_bytes(), time.perf_counter()
    solution = SOLVERS[solver](K)
    return {
        "extra_mebibytes": round((peak_bytes() - before) / 2**20, 1),
        "sweeps": solution.sweeps,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """All cases, one process each; or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", nargs=2, metavar=("SOLVER", "SHAPE"), help="measure this one and print it")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case, options.threads)))
        return
    figures: dict[str, Any] = {"rank": RANK, "kernel_mebibytes": 9 * 512 * 512 * 4 / 2**20}
    for shape in SHAPES:
        for solver in SOLVERS:
            command = [sys.executable, __file__, "--threads", str(options.threads), "--case", solver, shape]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures[f"{solver}, {shape}"] = row = json.loads(done.stdout)
            print(f"{solver:15s} {shape}: {row}", flush=True)
    print(record("scale_512x512x3x3", figures))


if __name__ == "__main__":
    main()
