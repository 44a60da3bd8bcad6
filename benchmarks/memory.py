"""Peak memory of decomposing a 512 x 512 x 3 x 3 kernel at rank 500, beyond torch and the kernel itself.

    python benchmarks/memory.py

The kernel is random (values do not matter for memory); a fresh process, so the peak is its own.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from record import record

from polyadic.algebra import kernel_to_order3
from polyadic.decomposition import EPCOptions, RidgeOptions, StableOptions, stable_cp


def peak_bytes() -> int:
    """Largest resident set of this process so far (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Decompose once and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sweeps", type=int, default=5, help="at each penalty, and of EPC; memory does not depend on them"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warm = torch.randn(256, 256, dtype=torch.float64)
    torch.linalg.eigh(warm @ warm.mT)  # loads the linear algebra libraries before the reading
    kernel = torch.randn(512, 512, 3, 3, generator=torch.Generator().manual_seed(0))
    before, began = peak_bytes(), time.perf_counter()
    limits = StableOptions(RidgeOptions(max_sweeps=options.sweeps), EPCOptions(max_sweeps=options.sweeps))
    solution = stable_cp(kernel_to_order3(kernel), 500, limits)
    figures = {
        "extra_mebibytes": round((peak_bytes() - before) / 2**20, 1),
        "kernel_mebibytes": kernel.numel() * 4 / 2**20,
        "sweeps": solution.sweeps,
        "seconds": round(time.perf_counter() - began, 1),
        "relative_error": solution.relative_error,
    }
    print(figures)
    print(record("memory_512x512x3x3", figures))


if __name__ == "__main__":
    main()
