"""A path over ranks, warm-started, against cold starts at every rank.

    python benchmarks/rank_path.py --weights resnet56_cifar10.safetensors

For some kernels of the network and ranks from a sixth to 0.7 of what the dense kernel's weights would buy: relative
error and sensitivity at each rank, sweeps and seconds in all, for cold starts, growing paths (reheat 4 and 16) and
deflating ones. ``trade`` is ``log(squared error) + share * log(sensitivity)`` minus that of the cold start, times 100:
negative is better, and 1 is about half a percent of error.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.algebra import CPTensor, kernel_to_order3
from polyadic.decomposition import RankPathOptions, RidgeOptions, Solution, cp_rank_path, cp_ridge
from polyadic.models import read_state_dict

KERNELS = ("layer1.3.conv1", "layer2.4.conv1", "layer2.7.conv2", "layer3.0.conv1", "layer3.8.conv1")
PATHS = {
    "grow, reheat 4": RankPathOptions(reheat=4.0),
    "grow, reheat 16": RankPathOptions(reheat=16.0),
    "deflate, reheat 4": RankPathOptions(direction="deflate", reheat=4.0),
    "deflate, reheat 16": RankPathOptions(direction="deflate", reheat=16.0),
}


def trade(solution: Solution[CPTensor]) -> float:
    """Error and sensitivity in one figure, at the exchange rate of the end of a path."""
    assert solution.stability is not None
    error = torch.tensor(solution.relative_error).square().log()
    return float(error + RidgeOptions().share * torch.tensor(solution.stability.sensitivity).log())


def compare(K: Tensor, ranks: list[int]) -> dict[str, Any]:
    """Cold starts and the four paths."""
    began = time.perf_counter()
    cold = [cp_ridge(K, rank) for rank in ranks]
    rows = {"cold": row(cold, cold, time.perf_counter() - began)}
    for name, options in PATHS.items():
        began = time.perf_counter()
        path = cp_rank_path(K, ranks, options)
        rows[name] = row(list(path.solutions), cold, time.perf_counter() - began)
    return rows


def row(solutions: list[Solution[CPTensor]], cold: list[Solution[CPTensor]], seconds: float) -> dict[str, Any]:
    """Curves, and the differences from cold starts."""
    differences = [100 * (trade(a) - trade(b)) for a, b in zip(solutions, cold, strict=True)]
    return {
        "errors": [round(solution.relative_error, 5) for solution in solutions],
        "sensitivities": [round(solution.stability.sensitivity, 1) for solution in solutions if solution.stability],
        "sweeps": sum(solution.sweeps for solution in solutions),
        "seconds": round(seconds, 2),
        "trade": [round(value, 2) for value in differences],
        "mean_trade": mean(differences),
    }


def main() -> None:
    """Run over the kernels and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_state_dict(options.weights)
    figures: dict[str, Any] = {}
    for name in KERNELS:
        K = kernel_to_order3(state[f"{name}.weight"]).double().contiguous()
        I, S, T = K.shape
        dense = I * S * T / (I + S + T)
        ranks = sorted({round(dense * share) for share in (0.16, 0.25, 0.34, 0.43, 0.52, 0.61, 0.7)})
        figures[name] = {"ranks": ranks, **compare(K, ranks)}
        print(
            name,
            {
                key: (value["sweeps"], round(value["mean_trade"], 2))
                for key, value in figures[name].items()
                if key != "ranks"
            },
        )
    summary = {
        method: {
            "mean_trade": mean(figures[name][method]["mean_trade"] for name in KERNELS),
            "sweeps_over_cold": sum(figures[name][method]["sweeps"] for name in KERNELS)
            / sum(figures[name]["cold"]["sweeps"] for name in KERNELS),
        }
        for method in PATHS
    }
    print(summary)
    print(record(f"rank_path_{options.weights.stem}", {"summary": summary, "kernels": figures}))


if __name__ == "__main__":
    main()
