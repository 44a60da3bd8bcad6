"""Ranks of tensor trains within an error bound, against equal shares; and what refinement adds at the same ranks.

    python benchmarks/tensor_trains.py --weights resnet56_cifar10.safetensors

Kernels are (D^2 T) x S matrices in tensor-train format, row modes (D^2, t_1, t_2, t_3), column modes (1, s_1, s_2,
s_3). For each kernel and bound: parameters with equal shares of the squared error for every cut (Oseledets 2011), with
equal shares where a cut's unused share is passed on, and with the ranks that are planned by price. At the planned
ranks, and at (9, 12, 12): the relative error of TT-SVD, and of ALS in the plain norm after it. Random tensors come
last: Gaussian, order 2 to 6, each mode with a random geometric decay, in rotated coordinates.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from record import record
from torch import Tensor

from polyadic.algebra import TensorTrain, balanced_modes, kernel_to_order3, largest_tt_ranks
from polyadic.decomposition import TTALSOptions, tt_als, tt_svd, tt_svd_bounded
from polyadic.decomposition.tt_matrix import rearrange
from polyadic.decomposition.tt_rounding import smallest_rank, truncate
from polyadic.models import read_state_dict

KERNELS = ("layer3.8.conv1", "layer2.4.conv1", "layer3.0.conv1", "layer2.8.conv2")
BOUNDS = (0.2, 0.4, 0.6)
SMALL = (9, 12, 12)
REFINED = TTALSOptions(max_sweeps=200, tolerance=1e-7)


def as_train_tensor(weight: Tensor) -> Tensor:
    """A kernel (T x S x D x D) as the tensor with modes ``D^2, t_k s_k``."""
    K = kernel_to_order3(weight).double()
    D2, S, T = K.shape
    rows, columns = (D2, *balanced_modes(T, 3)), (1, *balanced_modes(S, 3))
    return rearrange(K.permute(0, 2, 1).reshape(D2 * T, S), rows, columns).contiguous()


def equal_shares(X: Tensor, error: float, passed_on: bool) -> TensorTrain:
    """TT-SVD where every cut may lose the same share of the squared error, and what was left unused if passed on."""
    exact = tt_svd(X, largest_tt_ranks(tuple(X.shape))).factors.right_orthogonal()
    budget, cuts = (error * float(X.norm())) ** 2, X.ndim - 1

    def rule(cut: int, tail: Tensor, lost: float) -> int:
        return smallest_rank(tail, (budget - lost) / (cuts - cut) if passed_on else budget / cuts)

    return truncate(exact, rule).train


def compare(X: Tensor, error: float) -> dict[str, Any]:
    """Parameters of the three rules, and the planned ranks before and after ALS."""
    began = time.perf_counter()
    planned = tt_svd_bounded(X, error)
    seconds = time.perf_counter() - began
    return {
        **refinement(X, planned.factors.ranks),
        "parameters": {
            "equal shares": equal_shares(X, error, False).parameters,
            "equal shares, passed on": equal_shares(X, error, True).parameters,
            "planned": planned.factors.parameters,
        },
        "relative_error": planned.relative_error,
        "seconds": round(seconds, 3),
    }


def refinement(X: Tensor, ranks: tuple[int, ...]) -> dict[str, Any]:
    """The relative error of TT-SVD, and after ALS in the plain norm."""
    plain = tt_svd(X, ranks)
    refined = tt_als(X, plain.factors, REFINED)
    return {
        "ranks": list(ranks),
        "tt_svd_error": plain.relative_error,
        "refined_error": refined.relative_error,
        "refined_sweeps": refined.sweeps,
        "won_by_refinement_percent": round(100 * (1 - refined.relative_error / plain.relative_error), 3) + 0.0,
    }


def random_tensor(generator: random.Random, seed: int) -> Tensor:
    """Gaussian, of order 2 to 6 and at most 4096 entries, every mode decaying by a random ratio."""
    order = generator.randint(2, 6)
    shape = [generator.randint(2, {2: 24, 3: 12, 4: 8, 5: 5, 6: 4}[order]) for _ in range(order)]
    X = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for mode, size in enumerate(shape):
        decay = generator.uniform(0.4, 1.0) ** torch.arange(size, dtype=torch.float64)
        X = X * decay.reshape(-1, *[1] * (order - mode - 1))
        X = torch.tensordot(X, torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q, ([mode], [0]))
        X = X.movedim(-1, mode)
    return X


def random_tensors(count: int) -> dict[str, Any]:
    """Parameters of the planned ranks over those of equal shares, and whether the bound was kept."""
    torch.manual_seed(0)
    generator = random.Random(0)
    ratios, ratios_passed_on, kept = [], [], 0
    for seed in range(count):
        X, error = random_tensor(generator, seed), generator.uniform(0.05, 0.7)
        planned = tt_svd_bounded(X, error)
        kept += planned.relative_error <= error * (1 + 1e-9)
        ratios.append(planned.factors.parameters / equal_shares(X, error, False).parameters)
        ratios_passed_on.append(planned.factors.parameters / equal_shares(X, error, True).parameters)
    return {
        "tensors": count,
        "bound_kept": kept,
        "mean_parameters_over_equal_shares": mean(ratios),
        "largest_parameters_over_equal_shares": max(ratios),
        "mean_parameters_over_equal_shares_passed_on": mean(ratios_passed_on),
        "largest_parameters_over_equal_shares_passed_on": max(ratios_passed_on),
    }


def main() -> None:
    """Run over kernels and bounds, then over random tensors, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--random", type=int, default=500, help="how many random tensors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_state_dict(options.weights)
    kernels: dict[str, Any] = {}
    for name in KERNELS:
        X = as_train_tensor(state[f"{name}.weight"])
        kernels[name] = {"modes": list(X.shape), **{str(error): compare(X, error) for error in BOUNDS}}
        kernels[name]["small ranks"] = refinement(X, SMALL)
        print(name, kernels[name], flush=True)
    won = [
        kernels[name][str(error)]["won_by_refinement_percent"] for name in KERNELS for error in (*BOUNDS, "small ranks")
    ]
    figures = {
        "kernels": kernels,
        "won_by_refinement_percent": {"least": min(won), "most": max(won)},
        "random": random_tensors(options.random),
    }
    print(figures["won_by_refinement_percent"], figures["random"])
    print(record(f"tensor_trains_{options.weights.stem}", figures))


if __name__ == "__main__":
    main()
