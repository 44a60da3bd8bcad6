"""CP with low-rank factor matrices on handwritten digits, against CP and Tucker at equal numbers of parameters.

    python benchmarks/low_rank_factors.py --digits mnist_train.npz

The file holds ``x`` (images x 28 x 28 [x 1], uint8). For each CP rank R, ranks of the factor matrices are found within
an error bound of ``--slack`` times the error of the stable CP of that rank; then, with no more parameters than that
takes: the same ranks given, plain CP of a lower rank (ALS and stable), and the best of all Tucker ranks by truncated
HOSVD, refined by orthogonal iteration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record
from torch import Tensor

from polyadic.algebra import mode_product
from polyadic.decomposition import (
    ALSOptions,
    Solution,
    cp_als,
    cp_low_rank,
    cp_low_rank_bounded,
    stable_cp,
)
from polyadic.decomposition.tucker2 import mode_gram, spectrum


def digits(path: Path, count: int) -> Tensor:
    """The first ``count`` images as rows x columns x images, float64, largest value 1."""
    images = np.load(path)["x"][:count].reshape(count, 28, 28)
    return torch.from_numpy(images.astype(np.float64) / 255.0).permute(1, 2, 0).contiguous()


def best_tucker(X: Tensor, parameters: int, sweeps: int = 10) -> dict[str, Any]:
    """Relative error and ranks of the best Tucker decomposition with at most ``parameters`` numbers."""
    began = time.perf_counter()
    bases = [spectrum(mode_gram(X, mode))[1] for mode in range(3)]
    kept = projected(X, bases).square().cumsum(0).cumsum(1).cumsum(2)
    a, b, c = (torch.arange(1, size + 1) for size in kept.shape)
    I, J, L = X.shape
    paid = (a[:, None, None] * b[:, None] * c) + (a * I)[:, None, None] + (b * J)[:, None] + c * L
    flat = int(torch.where(paid <= parameters, kept, -1.0).argmax())
    ranks = [int(at) + 1 for at in np.unravel_index(flat, tuple(kept.shape))]
    bases = [U[:, :r] for U, r in zip(bases, ranks, strict=True)]
    for _ in range(sweeps):
        for mode, r in enumerate(ranks):
            others = [None if m == mode else U for m, U in enumerate(bases)]
            bases[mode] = spectrum(mode_gram(projected(X, others), mode))[1][:, :r]
    energy = float(projected(X, bases).square().sum() / X.square().sum())
    return {
        "relative_error": (1.0 - energy) ** 0.5,
        "parameters": int(paid.flatten()[flat]),
        "ranks": ranks,
        "seconds": round(time.perf_counter() - began, 2),
    }


def projected(X: Tensor, bases: list[Tensor] | list[Tensor | None]) -> Tensor:
    """``X x_1 U_1' x_2 U_2' ...`` without the modes that are None."""
    for mode, U in enumerate(bases):
        X = X if U is None else mode_product(X, U.mT, mode)
    return X


def figures(solve: Callable[[], Solution[Any]]) -> tuple[Solution[Any], dict[str, Any]]:
    """A decomposition, and what is compared of it."""
    began = time.perf_counter()
    solution = solve()
    row = {
        "relative_error": solution.relative_error,
        "parameters": solution.factors.parameters,
        "sensitivity": solution.stability.sensitivity if solution.stability else None,
        "sweeps": solution.sweeps,
        "stop": solution.stop.name,
        "seconds": round(time.perf_counter() - began, 2),
    }
    return solution, row | ({"ranks": solution.factors.ranks} if hasattr(solution.factors, "ranks") else {})


def compare(X: Tensor, R: int, slack: float) -> dict[str, Any]:
    """All methods at the number of parameters that the automatic ranks take."""
    whole, of_whole = figures(lambda: stable_cp(X, R))
    bound = min(0.999, slack * whole.relative_error)
    found, of_found = figures(lambda: cp_low_rank_bounded(X, R, bound))
    parameters = found.factors.parameters
    lower = max(1, parameters // sum(X.shape))
    row = {
        "error bound": bound,
        "stable CP of rank R": of_whole,
        "low-rank factors, ranks found": of_found,
        "low-rank factors, ranks given": figures(lambda: cp_low_rank(X, R, found.factors.ranks))[1],
        "CP rank at equal parameters": lower,
        "CP, ALS": figures(lambda: cp_als(X, lower, ALSOptions(max_sweeps=1000, tolerance=1e-8)))[1],
        "CP, stable": figures(lambda: stable_cp(X, lower))[1],
    }
    row["Tucker"] = best_tucker(X, parameters)
    return row


def main() -> None:
    """Run over the ranks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--ranks", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--slack", type=float, default=1.02)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    X = digits(options.digits, options.images)
    rows: dict[str, Any] = {}
    began = time.perf_counter()
    for R in options.ranks:
        rows[str(R)] = compare(X, R, options.slack)
        for name, row in rows[str(R)].items():
            print(R, name, row, flush=True)
    figures_of_all = {"shape": list(X.shape), "rows": rows, "seconds": round(time.perf_counter() - began, 1)}
    print(record("low_rank_factors_mnist", figures_of_all))


if __name__ == "__main__":
    main()
