"""Stable CP against long ALS on every 3 x 3 kernel of a network, at the rank that halves its multiply-accumulates.

    python benchmarks/kernels.py --weights resnet56_cifar10.safetensors

For each kernel: relative error, sensitivity (factors of K / ||K||, balanced) and seconds of cp-als (many sweeps),
cp-als-epc and cp-epc, and how far the reported error is from the rebuilt kernel's. Also layer3.8.conv1 at rank 64.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.algebra import CP, kernel_to_order3
from polyadic.decomposition import (
    ALSOptions,
    EPCOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_epc,
    stable_cp,
)
from polyadic.models import read_state_dict


def figures(K: Tensor, solution: Solution[CP], began: float) -> dict[str, Any]:
    """Everything that is compared, and the distance of the reported error from the rebuilt kernel's."""
    assert solution.stability is not None
    seconds = time.perf_counter() - began
    rebuilt = float((K - solution.factors.full()).norm() / K.norm())
    return {
        "relative_error": solution.relative_error,
        "sensitivity": solution.stability.sensitivity,
        "intensity_ratio": solution.stability.intensity_ratio,
        "error_mismatch": abs(rebuilt - solution.relative_error),
        "stop": solution.stop.name,
        "seconds": round(seconds, 3),
    }


def compare(K: Tensor, rank: int, sweeps: int) -> dict[str, Any]:
    """The three methods on one kernel."""
    began = time.perf_counter()
    als = cp_als(K, rank, ALSOptions(max_sweeps=sweeps, tolerance=0.0))
    row = {"cp-als": figures(K, als, began)}
    began = time.perf_counter()
    row["cp-als-epc"] = figures(K, cp_epc(K, als.factors), began)
    began = time.perf_counter()
    row["cp-epc"] = figures(K, stable_cp(K, rank), began)
    return row


def main() -> None:
    """Run over all kernels and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--sweeps", type=int, default=3000, help="of cp-als")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels = {
        name.removesuffix(".weight"): kernel_to_order3(weight).double().contiguous()
        for name, weight in read_state_dict(options.weights).items()
        if weight.ndim == 4 and weight.shape[1] > 3 and weight.shape[2:] == (3, 3)
    }
    rows = {}
    for name, K in kernels.items():
        I, S, T = K.shape
        rank = round(I * S * T / 2 / (I + S + T))
        rows[name] = {"rank": rank, "shape": [I, S, T], **compare(K, rank, options.sweeps)}
        als, stable = rows[name]["cp-als"], rows[name]["cp-epc"]
        print(
            f"{name:16s} R {rank:4d}  error {als['relative_error']:.4f} -> {stable['relative_error']:.4f}  "
            f"sensitivity {als['sensitivity']:9.0f} -> {stable['sensitivity']:7.0f}  {stable['seconds']:.1f} s",
            flush=True,
        )
    ratio = [row["cp-epc"]["relative_error"] / row["cp-als"]["relative_error"] for row in rows.values()]
    share = [row["cp-epc"]["sensitivity"] / row["cp-als"]["sensitivity"] for row in rows.values()]
    summary: dict[str, Any] = {
        "kernels": len(rows),
        "worst_error_over_als": max(ratio),
        "median_error_over_als": median(ratio),
        "median_sensitivity_over_als": median(share),
        "worst_sensitivity_over_als": max(share),
        "worst_error_mismatch": max(row["cp-epc"]["error_mismatch"] for row in rows.values()),
    }
    hard = kernels.get("layer3.8.conv1")
    if hard is not None:
        began = time.perf_counter()
        summary["layer3.8.conv1 R=64"] = figures(hard, stable_cp(hard, 64), began)
        began = time.perf_counter()
        slack = StableOptions(epc=EPCOptions(error_slack=0.01, max_sweeps=100, tolerance=1e-5))
        summary["layer3.8.conv1 R=64, slack 0.01"] = figures(hard, stable_cp(hard, 64, slack), began)
    print(summary)
    print(record(f"kernels_{options.weights.stem}", {"summary": summary, "kernels": rows}))


if __name__ == "__main__":
    main()
