"""Tucker-2 within an error bound and its frontier, and what a Tucker-2 before a CP is worth at equal weights.

    python benchmarks/tucker.py --weights resnet56_cifar10.safetensors

Kernels in the plain norm. ``bounded``: weights of the sequential rule (Phan et al., ECCV 2020, eq. 14-18) begun at U
and at V, and of the search, at one error bound. ``frontier``: weights of the refined and of the truncated frontier over
those of the search at bounds 0.3 to 0.7, and how far errors along it lie above orthogonal iteration run to convergence.
``split``: relative error of a stable CP that holds a share of the dense kernel's weights, and of TKD-CPD at the same
weights with (R1, R2) at 0.7 and 0.85 times the rank below which splitting a side saves weights, on one or both sides.
``low_rank``: TKD-CPD against CP with low-rank factors at the same ranks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.algebra import kernel_to_order3, mode_product
from polyadic.decomposition import (
    Tucker2Options,
    cp_low_rank,
    forecast_split,
    likely_ranks,
    stable_cp,
    tkd_cpd,
    tkd_weights,
    tucker2,
    tucker2_bounded,
    tucker2_frontier,
    tucker2_rank_frontier,
    tucker2_weights,
)
from polyadic.decomposition.tucker2 import mode_gram, spectrum
from polyadic.decomposition.tucker2_ranks import truncation_table
from polyadic.models import read_state_dict

BOUNDED = (
    ("layer3.8.conv1", 0.4),
    ("layer3.8.conv1", 0.6),
    ("layer3.0.conv1", 0.4),
    ("layer2.4.conv1", 0.6),
    ("layer3.4.conv2", 0.6),
)
FRONTIERS = ("layer3.8.conv1", "layer3.4.conv2")
FRONTIER_BOUNDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SPLITS = (("layer2.4.conv1", 0.15), ("layer2.4.conv1", 0.3), ("layer3.8.conv1", 0.15), ("layer3.8.conv1", 0.3))
LOW_RANK = ((35, 64, 81), (32, 32, 95))


def sequential(K: Tensor, error: float, first: int, sweeps: int = 4) -> dict[str, Any]:
    """U and V in turn, each with the smallest rank that keeps the bound; the cheapest pair on the way."""
    needed = (1.0 - error**2) * float(K.square().sum())
    price = tucker2_weights(tuple(K.shape))
    bases = [spectrum(mode_gram(K, mode))[1] for mode in (1, 2)]
    pairs = []
    for step in range(2 * sweeps):
        mode = first if step % 2 == 0 else 3 - first
        values, vectors = spectrum(mode_gram(mode_product(K, bases[2 - mode].mT, 3 - mode), mode))
        bases[mode - 1] = vectors[:, : int((values.cumsum(0) < needed).sum()) + 1]
        if step:
            pairs.append((bases[0].shape[1], bases[1].shape[1]))
    ranks = min(pairs, key=lambda pair: price(*pair))
    return {"ranks": list(ranks), "weights": int(price(*ranks))}


def bounded(K: Tensor, error: float) -> dict[str, Any]:
    """The sequential rule from either side, and the search."""
    began = time.perf_counter()
    found = tucker2_bounded(K, error)
    seconds = time.perf_counter() - began
    return {
        "error": error,
        "U first": sequential(K, error, 1),
        "V first": sequential(K, error, 2),
        "searched": {
            "ranks": list(found.factors.ranks),
            "weights": found.factors.parameters,
            "relative_error": found.relative_error,
            "seconds": round(seconds, 2),
        },
    }


def frontier(K: Tensor) -> dict[str, Any]:
    """Weights over those of the bounded search, and errors above those of converged orthogonal iteration."""
    began = time.perf_counter()
    refined = tucker2_frontier(K)
    seconds = time.perf_counter() - began
    price = tucker2_weights(tuple(K.shape))
    kept = truncation_table(K)
    truncated = [
        (price(*ranks), float((1.0 - kept[ranks[0] - 1, ranks[1] - 1] / kept[-1, -1]).clamp_min(0.0).sqrt()))
        for ranks in tucker2_rank_frontier(K, price)
    ]
    rows = {}
    for error in FRONTIER_BOUNDS:
        searched = tucker2_bounded(K, error).factors.parameters
        rows[str(error)] = {
            "searched": searched,
            "frontier": min(point.cost for point in refined if point.relative_error <= error) / searched,
            "truncated": min(cost for cost, reached in truncated if reached <= error) / searched,
        }
    exact = Tucker2Options(max_sweeps=500, tolerance=1e-11)
    above = [point.relative_error - tucker2(K, point.ranks, exact).relative_error for point in refined[::10]]
    return {
        "points": len(refined),
        "seconds": round(seconds, 2),
        "bounds": rows,
        "largest_frontier": max(row["frontier"] for row in rows.values()),
        "largest_truncated": max(row["truncated"] for row in rows.values()),
        "largest_error_above_iteration": max(above),
    }


def split(K: Tensor, share: float) -> dict[str, Any]:
    """Plain CP against TKD-CPD of the same weights."""
    D2, S, T = (int(size) for size in K.shape)
    price = tkd_weights((D2, S, T))
    rank = int(share * K.numel() / (D2 + S + T))
    weights = price(S, T, rank)
    plain = stable_cp(K, rank)
    rows = []
    for first, second in ((0.7, None), (0.85, None), (None, 0.7), (None, 0.85), (0.7, 0.7), (0.85, 0.85)):
        R1 = S if first is None else round(first * S * rank / (S + rank))
        R2 = T if second is None else round(second * T * rank / (T + rank))
        R = max(r for r in range(1, 4 * rank) if price(R1, R2, r) <= weights)
        solution = tkd_cpd(K, R, ranks=(R1, R2))
        outer = tucker2(K, (R1, R2)).relative_error
        rows.append(
            {
                "ranks": [R1, R2, R],
                "weights": int(price(R1, R2, R)),
                "relative_error": solution.relative_error,
                "squared_share_of_tucker": (outer / solution.relative_error) ** 2,
            }
        )
    forecast = forecast_split(K, rank)
    return {
        "share": share,
        "plain CP": {"rank": rank, "weights": int(weights), "relative_error": plain.relative_error},
        "splits": rows,
        "best split": min(rows, key=lambda row: row["relative_error"]),
        "exponent": forecast.exponent,
        "forecast ranks": list(likely_ranks(forecast, rank)),
    }


def low_rank(K: Tensor, R1: int, R2: int, R: int) -> dict[str, Any]:
    """TKD-CPD, and the subspaces fitted within the CP."""
    before, within = tkd_cpd(K, R, ranks=(R1, R2)), cp_low_rank(K, R, (None, R1, R2))
    assert before.stability is not None
    assert within.stability is not None
    return {
        "ranks": [R1, R2, R],
        "TKD-CPD": {"relative_error": before.relative_error, "sensitivity": before.stability.sensitivity},
        "low-rank factors": {"relative_error": within.relative_error, "sensitivity": within.stability.sensitivity},
    }


def main() -> None:
    """Run the four comparisons and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_state_dict(options.weights)

    def kernel(name: str) -> Tensor:
        return kernel_to_order3(state[f"{name}.weight"]).double().contiguous()

    began = time.perf_counter()
    figures: dict[str, Any] = {
        "bounded": [{"kernel": name, **bounded(kernel(name), error)} for name, error in BOUNDED],
        "frontier": {name: frontier(kernel(name)) for name in FRONTIERS},
    }
    print(figures, round(time.perf_counter() - began, 1), flush=True)
    figures["low_rank"] = [{"kernel": FRONTIERS[0], **low_rank(kernel(FRONTIERS[0]), *ranks)} for ranks in LOW_RANK]
    print(figures["low_rank"], round(time.perf_counter() - began, 1), flush=True)
    figures["split"] = []
    for name, share in SPLITS:
        figures["split"].append({"kernel": name, **split(kernel(name), share)})
        print(figures["split"][-1], round(time.perf_counter() - began, 1), flush=True)
    figures["seconds"] = round(time.perf_counter() - began, 1)
    print(record(f"tucker_{options.weights.stem}", figures))


if __name__ == "__main__":
    main()
