"""How well times of single blocks predict the time of a whole network: random plans, predicted against measured.

    python benchmarks/latency_model.py --network polyadic:resnet20 --engine onnxruntime --batch 1 --threads 1

Weights do not matter for times and are random. One JSON object for each network, engine and batch: mean and largest
relative error of the prediction, Spearman's rank correlation, the same for a prediction from multiply-accumulates, and
all plans. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

from polyadic.engines import Conditions, LatencyCache, LatencyModel, engine_named, environment
from polyadic.models import load_model
from polyadic.pipeline import CompressOptions
from polyadic.pipeline.candidates import find_candidates
from polyadic.pipeline.latency_check import LatencyCheck
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost, time_candidates
from polyadic.schema import Choice, LatencyResult, Plan
from polyadic.search import RankCandidates, SearchSpace, Uniform
from polyadic.storage import atomic_path
from polyadic.surgery import find_layers

FORMATS = ("cp-epc", "tucker2", "spatial-svd", "svd")
WINDOWED = FORMATS[:3]  # svd alone would leave all layers with a window dense
SHARES = (0.15, 0.3, 0.5, 0.7)  # of the MACs of a layer, at most


def main() -> None:
    """Measure what the command line asks for and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["polyadic:resnet20", "polyadic:resnet56"])
    parser.add_argument("--engine", nargs="+", default=["onnxruntime", "openvino", "pytorch"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, help="side of the images; the network's own when absent")
    parser.add_argument("--plans", type=int, default=8)
    parser.add_argument("--points", type=int, default=8, help="ranks measured of each layer and format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="where times of blocks are kept")
    parser.add_argument("--out", type=Path, default=Path("latency_model.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = []
    for network, engine, batch in itertools.product(given.network, given.engine, given.batch):
        conditions = Conditions(batch, given.threads)
        model = LatencyModel(engine_named(engine), conditions, LatencyCache(given.cache))
        results.append({"network": network, "engine": engine, "where": str(model), **study(network, model, given)})
        print(json.dumps({key: value for key, value in results[-1].items() if key != "plans"}), flush=True)
        with atomic_path(given.out) as path:
            path.write_text(json.dumps({"environment": environment(), "results": results}, indent=1))


def study(network: str, model: LatencyModel, given: argparse.Namespace) -> dict[str, Any]:
    """Random plans of one network on one engine."""
    loaded = load_model(network)
    dense, shape = loaded.model.eval(), loaded.input_shape or (3, 224, 224)
    example = torch.randn(1, shape[0], *((given.size,) * 2 if given.size else shape[1:]))
    options = CompressOptions(latency=model, candidates_per_layer=given.points, require_speedup=False)
    began, layers = time.monotonic(), find_layers(dense, example)
    target = Target(None, None, Uniform(), FORMATS)
    found, _ = time_candidates(find_candidates(dense, layers, FORMATS, options), layers, target, options, print)
    cost = measure_cost(dense, example, options)
    space, seconds = SearchSpace(found, dense=cost), time.monotonic() - began
    source = random.Random(given.seed)
    plans = [random_plan(space, source, number) for number in range(given.plans)]
    check = LatencyCheck(model, dense, example, space)
    speeds = [check.speed(plan) for plan in plans]
    macs = [space.cost(plan).macs / cost.macs for plan in plans]
    return {
        "dense_ms": cost.latency,
        "measured_ranks": sum(sum(candidates.measured) for candidates in found),
        "seconds_for_blocks": round(seconds, 1),
        **errors(speeds, macs),
        "plans": [
            {**speed.to_json(), "mac_share": share, "layers": speed.plan.to_json()}
            for speed, share in zip(speeds, macs, strict=True)
        ],
    }


def errors(speeds: list[LatencyResult], macs: list[float]) -> dict[str, float]:
    """How far predictions are off, and whether they keep the order; MACs for comparison."""
    measured = [speed.measured for speed in speeds]
    off = [abs(speed.predicted / speed.measured - 1.0) for speed in speeds]
    off_macs = [abs(speed.dense * share / speed.measured - 1.0) for speed, share in zip(speeds, macs, strict=True)]
    return {
        "mean_error": sum(off) / len(off),
        "largest_error": max(off),
        "rank_correlation": float(spearmanr([speed.predicted for speed in speeds], measured).statistic),
        "mean_error_of_macs": sum(off_macs) / len(off_macs),
        "rank_correlation_of_macs": float(spearmanr(macs, measured).statistic),
    }


def random_plan(space: SearchSpace, source: random.Random, number: int) -> Plan:
    """Four of five layers at a random rank: in one format for the first plans, in any for the others."""
    share, fixed = source.choice(SHARES), WINDOWED[number] if number < len(WINDOWED) else None
    choices = []
    for all_candidates in space.by_layer().values():
        fitting = [candidates for candidates in all_candidates if fixed in (None, candidates.format)]
        if fitting and source.random() < 0.8:
            choices.append(_at(source.choice(fitting), source.uniform(0.5, 1.0) * share))
    return Plan(tuple(choices))


def _at(candidates: RankCandidates, share: float) -> Choice:
    return Choice(
        candidates.layer, candidates.format, candidates.ranks[candidates.within(share * candidates.dense_macs)]
    )


if __name__ == "__main__":
    main()
