"""Degeneracy shown and tamed: the border-rank tensor, a swamp, and the sensitivity against simulation.

    python benchmarks/degeneracy.py

1. a o a o b + a o b o a + b o a o a (rank 3, border rank 2) at rank 2: components of plain ALS after more and more
   sweeps, and of stable_cp.
2. A rank-3 tensor with nearly collinear columns (a swamp): sweeps or steps to a squared relative error of 1e-12.
3. E ||K^ - K^~||^2 / sigma^2 under small random changes of the factors, against the formula of the sensitivity.
"""

from __future__ import annotations

from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    LMOptions,
    RidgeOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_lm,
    diagnose,
    stable_cp,
)


def border_rank() -> Tensor:
    """No best rank-2 approximation exists."""
    a, b = torch.eye(2, dtype=torch.float64)
    return sum(
        (torch.einsum("i,j,k->ijk", *vectors) for vectors in ((a, a, b), (a, b, a), (b, a, a))),
        start=torch.zeros(2, 2, 2, dtype=torch.float64),
    )


def swamp(rank: int = 3) -> Tensor:
    """Columns that meet under small angles in every mode."""
    generator = torch.Generator().manual_seed(1)
    factors = []
    for size in (9, 10, 11):
        common = torch.randn(size, 1, generator=generator, dtype=torch.float64)
        factors.append(common + 0.2 * torch.randn(size, rank, generator=generator, dtype=torch.float64))
    return CPTensor(tuple(factors)).full()


def state(solution: Solution[CPTensor]) -> dict[str, Any]:
    """What is compared."""
    assert solution.stability is not None
    return {
        "relative_error": solution.relative_error,
        "sum_squared_intensity": solution.stability.sum_squared_intensity,
        "sensitivity": solution.stability.sensitivity,
        "congruence": diagnose(solution.factors).congruence,
        "sweeps": solution.sweeps,
        "stop": solution.stop.value,
    }


def sweeps_to_exact(history: tuple[float, ...]) -> int | None:
    """The first sweep after which the squared relative error is below 1e-12."""
    return next((number for number, error in enumerate(history, 1) if error**2 <= 1e-12), None)


def simulated(cp: CPTensor, draws: int = 20000, sigma: float = 1e-4) -> tuple[float, float]:
    """Mean and standard error of ``||K^ - K^~||^2 / sigma^2``."""
    generator, full = torch.Generator().manual_seed(0), cp.full()
    values = []
    for _ in range(draws):
        noisy = tuple(U + sigma * torch.randn(U.shape, generator=generator, dtype=U.dtype) for U in cp.factors)
        values.append(float((CPTensor(noisy).full() - full).square().sum()) / sigma**2)
    sample = torch.tensor(values, dtype=torch.float64)
    return float(sample.mean()), float(sample.std() / draws**0.5)


def main() -> None:
    """The three parts."""
    torch.set_num_threads(1)
    K = border_rank()
    border: dict[str, Any] = {
        f"cp_als, {sweeps} sweeps": state(cp_als(K, 2, ALSOptions(max_sweeps=sweeps, tolerance=-1.0)))
        for sweeps in (10, 100, 1000, 10000)
    }
    border["stable_cp"] = state(stable_cp(K, 2))
    X = swamp()
    runs = {
        "cp_als": cp_als(X, 3, ALSOptions(max_sweeps=20000, tolerance=0.0)),
        "cp_lm": cp_lm(X, 3, LMOptions(max_steps=500)),
        "stable_cp": stable_cp(X, 3, StableOptions(ridge=RidgeOptions(weakest=1e-12))),
    }
    swamped = {name: {**state(run), "to_exact": sweeps_to_exact(run.history)} for name, run in runs.items()}
    generator = torch.Generator().manual_seed(2)
    cp = CPTensor(tuple(torch.randn(size, 12, generator=generator, dtype=torch.float64) for size in (9, 20, 24)))
    mean, deviation = simulated(cp)
    figures = {
        "border_rank": border,
        "swamp": swamped,
        "sensitivity": {"formula": float(cp.sensitivity()), "simulated": mean, "standard_error": deviation},
    }
    for part in figures.values():
        for name, row in part.items():
            print(name, row)
    print(record("degeneracy", figures))


if __name__ == "__main__":
    main()
