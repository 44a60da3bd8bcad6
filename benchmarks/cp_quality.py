"""Stable CP against every rival on the 3 x 3 kernels of a network, each run to convergence or to a generous limit.

    python benchmarks/cp_quality.py --weights resnet56_cifar10.safetensors

It takes about an hour of one core. Every case is a file in build/cp_quality: several processes share the work, and one
that is started again goes on.
For each kernel, at the CP ranks of 2, 3 and 4 times fewer multiply-accumulates: relative error, sensitivity (factors of
K / ||K||, balanced) and seconds (one thread) of

    stable     stable_cp with its defaults
    als-epc    plain ALS, then error-preserving correction
    ridge      sensitivity-penalised ALS at one penalty, the one at which stable ended
    klm        Krylov-Levenberg-Marquardt bounded to the sensitivity of stable, from 300 ALS sweeps
    homotopy   plain ridge sweeps, 300 at each of mu = 1e-3, 3e-4, 1e-4, 3e-5, 1e-5

and, for ridge and homotopy, the error of stable when it is bounded to the rival's sensitivity (at_equal_sensitivity),
and for als-epc its sensitivity when it is bounded to the rival's error (at_equal_error). Then the errors of TensorLy's
parafac and pyttb's cp_als stopped when they have run as long as stable.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pyttb
import tensorly
import torch
from record import record
from tensorly.decomposition import parafac
from torch import Tensor

from polyadic.algebra import CPTensor, kernel_to_order3
from polyadic.decomposition import (
    ALSOptions,
    EPCOptions,
    KLMOptions,
    RidgeOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_epc,
    cp_klm,
    cp_ridge,
    stable_cp,
)
from polyadic.decomposition.alternation import UnitTensors, solve_gram, sweep
from polyadic.decomposition.batch import initial_cp
from polyadic.models import read_state_dict

tensorly.set_backend("pytorch")
RIVALS = ("als-epc", "ridge", "klm", "homotopy")


def timed(solve: Callable[[], Solution[CPTensor]]) -> tuple[Solution[CPTensor], dict[str, Any]]:
    """A solution and its row."""
    began = time.perf_counter()
    solution = solve()
    seconds = time.perf_counter() - began
    assert solution.stability is not None
    return solution, {
        "relative_error": solution.relative_error,
        "sensitivity": solution.stability.sensitivity,
        "seconds": round(seconds, 3),
        "stop": solution.stop.name,
    }


def plain_homotopy(K: Tensor, rank: int) -> dict[str, Any]:
    """Fixed penalties, fixed numbers of sweeps, no extrapolation."""
    began = time.perf_counter()
    unit = UnitTensors.of(K[None])
    cp = initial_cp(unit, rank, "random", [0])
    error = torch.ones(1)
    for mu in (1e-3, 3e-4, 1e-4, 3e-5, 1e-5):
        for _ in range(300):
            cp, error = sweep(
                unit, cp, lambda block, mu=mu: solve_gram(block.Gamma + torch.diag_embed(mu * block.weight), block.G)
            )
            cp = cp.rescaled()
    seconds = round(time.perf_counter() - began, 3)
    return {"relative_error": float(error) ** 0.5, "sensitivity": float(cp.sensitivity()), "seconds": seconds}


def others_at_equal_time(K: Tensor, rank: int, seconds: float) -> dict[str, float]:
    """Errors of two other libraries' ALS, stopped at about the given time."""
    error = {}
    tensor = pyttb.tensor(K.numpy())

    def tensorly_run(sweeps: int) -> float:
        weights, factors = parafac(K, rank, n_iter_max=sweeps, init="random", tol=0, random_state=0)
        return float((K - tensorly.cp_to_tensor((weights, factors))).norm() / K.norm())

    def pyttb_run(sweeps: int) -> float:
        model, *_ = pyttb.cp_als(tensor, rank, stoptol=0, maxiters=sweeps, init="random", printitn=0)
        return float((tensor - model.full()).norm() / tensor.norm())

    for name, run in (("tensorly", tensorly_run), ("pyttb", pyttb_run)):
        began = time.perf_counter()
        run(20)
        each = (time.perf_counter() - began) / 20
        error[name] = run(max(20, round(seconds / each)))
    return error


def compare(K: Tensor, rank: int) -> dict[str, Any]:
    """All methods on one kernel at one rank."""
    stable, row = timed(lambda: stable_cp(K, rank))
    rows = {"stable": row}
    began = time.perf_counter()
    fitted = cp_als(K, rank, ALSOptions(max_sweeps=2000, tolerance=1e-10))
    _, rows["als-epc"] = timed(lambda: cp_epc(K, fitted.factors, EPCOptions(max_sweeps=600)))
    rows["als-epc"]["seconds"] = round(time.perf_counter() - began, 3)
    sensitivity = row["sensitivity"]
    mu = RidgeOptions().share * stable.relative_error**2 / sensitivity
    fixed = RidgeOptions(strongest=mu, weakest=mu, max_sweeps=3000, tolerance=1e-7)
    _, rows["ridge"] = timed(lambda: cp_ridge(K, rank, fixed))
    began = time.perf_counter()
    start = cp_als(K, rank, ALSOptions(max_sweeps=300))
    _, rows["klm"] = timed(lambda: cp_klm(K, start.factors, KLMOptions(bound=sensitivity, max_steps=200)))
    rows["klm"]["seconds"] = round(time.perf_counter() - began, 3)
    rows["homotopy"] = plain_homotopy(K, rank)
    for rival in ("ridge", "homotopy"):
        bound = StableOptions(sensitivity=rows[rival]["sensitivity"])
        rows[rival]["at_equal_sensitivity"] = stable_cp(K, rank, bound).relative_error
    met = stable_cp(K, rank, StableOptions(error=rows["als-epc"]["relative_error"]))
    assert met.stability is not None
    reached = met.relative_error <= rows["als-epc"]["relative_error"] * (1 + 1e-6)
    rows["als-epc"]["at_equal_error"] = met.stability.sensitivity if reached else None
    return {"rank": rank, "methods": rows, "at_equal_time": others_at_equal_time(K, rank, row["seconds"])}


def summarise(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How often, and by how much, over all kernels and ranks."""
    found: dict[str, Any] = {"cases": len(rows)}
    cases = [row["methods"] for row in rows.values()]
    for rival in RIVALS:
        pairs = [(case["stable"], case[rival]) for case in cases]
        found[rival] = {
            "default_no_worse_in_error": sum(a["relative_error"] <= b["relative_error"] for a, b in pairs),
            "default_no_worse_in_sensitivity": sum(a["sensitivity"] <= b["sensitivity"] * (1 + 1e-6) for a, b in pairs),
            "median_error_ratio": median(a["relative_error"] / b["relative_error"] for a, b in pairs),
            "median_sensitivity_ratio": median(a["sensitivity"] / b["sensitivity"] for a, b in pairs),
            "median_seconds_over_stable": median(b["seconds"] / a["seconds"] for a, b in pairs),
        }
        if all("at_equal_sensitivity" in case[rival] for case in cases):
            ratio = [case[rival]["at_equal_sensitivity"] / case[rival]["relative_error"] for case in cases]
            found[rival]["error_ratio_at_equal_sensitivity"] = {"median": median(ratio), "worst": max(ratio)}
            found[rival]["no_worse_at_equal_sensitivity"] = sum(value <= 1.0 for value in ratio)
    met = [(case["als-epc"]["at_equal_error"], case["als-epc"]["sensitivity"]) for case in cases]
    shares = [ours / theirs for ours, theirs in met if ours is not None]
    found["als-epc"]["sensitivity_ratio_at_equal_error"] = {"median": median(shares), "worst": max(shares)}
    found["als-epc"]["no_worse_at_equal_error"] = sum(share <= 1.0 for share in shares)
    for other in ("tensorly", "pyttb"):
        found[f"lower_error_than_{other}_at_equal_time"] = sum(
            row["methods"]["stable"]["relative_error"] < row["at_equal_time"][other] for row in rows.values()
        )
    return found


def main() -> None:
    """Run over all kernels and ranks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernels = {
        name.removesuffix(".weight"): kernel_to_order3(weight).double().contiguous()
        for name, weight in read_state_dict(options.weights).items()
        if weight.ndim == 4 and weight.shape[1] > 3 and weight.shape[2:] == (3, 3)
    }
    kept = Path("build/cp_quality") / options.weights.stem
    kept.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = {}
    for name, K in kernels.items():
        I, S, T = K.shape
        for times in (2, 3, 4):
            case, rank = kept / f"{name} {times}x.json", round(I * S * T / times / (I + S + T))
            try:
                case.with_suffix(".claimed").touch(exist_ok=False)
            except FileExistsError:
                continue  # done, or another process is at it
            row = compare(K, rank)
            case.write_text(json.dumps(row))
            figures = "  ".join(
                f"{method} {value['relative_error']:.4f} @ {value['sensitivity']:.0f}"
                for method, value in row["methods"].items()
            )
            print(f"{name} {times}x R {rank}: {figures}", flush=True)
    for name in kernels:
        for times in (2, 3, 4):
            case = kept / f"{name} {times}x.json"
            if case.exists():
                rows[f"{name} {times}x"] = json.loads(case.read_text())
    summary = {"missing_cases": 3 * len(kernels) - len(rows), **summarise(rows)}
    hard = kernels.get("layer3.8.conv1")
    if hard is not None:
        _, summary["layer3.8.conv1 R=64, sensitivity <= 650"] = timed(
            lambda: stable_cp(hard, 64, StableOptions(sensitivity=650.0, starts=4))
        )
    print(json.dumps(summary, indent=1))
    print(record(f"cp_quality_{options.weights.stem}", {"summary": summary, "cases": rows}))


if __name__ == "__main__":
    main()
