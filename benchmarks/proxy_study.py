"""How well the proxies of a rank search foretell what a plan is worth after fine-tuning.

    python benchmarks/proxy_study.py --weights resnet20_cifar10.safetensors --data npz:build/data/cifar10

Random plans of one network at one budget: every layer takes one of the formats by lot and a share of its
multiply-accumulates that is log-normal around a common factor, which is set so that the budget is used up. Each plan is
scored by every proxy before any training, on the first 1000 held-out images, and by its accuracy after the same short
fine-tuning, taught by the dense network, of which the last epoch counts. That accuracy is taken on the test images,
which each network reads once and which choose nothing, and on the other held-out images: those the published weights
were trained on, so that they tell less.

A row is written as soon as its plan is done, and a plan that is in the results already is not run again: the same
command goes on where it was cut off. ``--summarise`` computes correlations and figures from the rows there are.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from proxy_figures import write_figures
from record import RESULTS, command, record, rows_in
from scipy.stats import kendalltau, spearmanr
from torch import nn

from polyadic import CompressOptions
from polyadic.data import ImageData, load_data
from polyadic.models import load_model
from polyadic.pipeline.apply import Decomposer
from polyadic.pipeline.candidates import find_candidates
from polyadic.schema import Budget, Plan
from polyadic.search import RankCandidates, SearchSpace
from polyadic.search.levels import dearest_within
from polyadic.search.space import plan_of
from polyadic.surgery import (
    FactorCache,
    chain_for,
    copy_model,
    find_layers,
    input_norms,
    keep_statistics,
    measure_statistics,
    network_cost,
    recalibrate,
    replace_layer,
    shift_statistics,
)
from polyadic.training import NETWORK_TUNING, Augmentation, Execution, ImageProxy, score_images, train_on_images

FORMATS = ("spatial-svd", "cp-epc", "tucker2")
SPREAD = 0.6  # of the logarithm of the share that a layer keeps
PROXY_IMAGES, MOMENT_IMAGES, BATCH = 1000, 1000, 250
SAMPLES = 2000  # of the bootstrap
PROXIES = {
    "divergence": "divergence, statistics shifted",
    "drop": "drop, statistics shifted",
    "divergence_again": "divergence, taken again",
    "drop_again": "drop, taken again",
    "divergence_stale": "divergence, stale",
    "drop_stale": "drop, stale",
    "weighted_errors": "errors, norm of the inputs",
    "plain_errors": "errors, plain norm",
}


class Bench:
    """What all plans share: the dense network, its candidates, images, and factors on disk."""

    def __init__(self, dense: nn.Module, data: ImageData, budget: str, cache: Path) -> None:
        self.dense, self.data = dense, data
        example = data.example(1)
        self.sites = {site.name: site for site in find_layers(dense, example)}
        self.cost = network_cost(dense, example)
        options = CompressOptions(cache=FactorCache(cache))
        all_candidates = find_candidates(dense, tuple(self.sites.values()), FORMATS, options)
        self.space = SearchSpace(all_candidates, dense=self.cost, budget=Budget.parse([budget], self.cost))
        self.images = data.normalise(data.train.images(torch.arange(MOMENT_IMAGES)))
        self.decompose = Decomposer(dense, options.cache, options.seed)
        self.decompose.norms = input_norms(dense, list(self.space.by_layer()), self.images, options.sequential)
        self.statistics = measure_statistics(dense, self.images.split(BATCH))
        self.execution = Execution.for_evaluation()
        seen = data.held_out.take(torch.arange(PROXY_IMAGES))
        self.proxy = ImageProxy(dense, seen, data.normalise, self.execution, BATCH)
        self.judges = data.held_out.take(torch.arange(PROXY_IMAGES, len(data.held_out)))
        self.dense_scores = self.scores(dense)

    def scores(self, model: nn.Module) -> dict[str, float]:
        """On the test images, and on the held-out ones that no proxy sees."""
        return {
            name: score_images(model, images, self.data.normalise, execution=self.execution, batch_size=BATCH).value
            for name, images in (("test", self.data.test), ("held_out", self.judges))
        }

    def lost(self, model: nn.Module) -> dict[str, float]:
        """Points, against the dense network."""
        return {name: 100 * (self.dense_scores[name] - score) for name, score in self.scores(model).items()}

    def proxies(self, network: nn.Module) -> dict[str, float]:
        """What divergence and drop say, with statistics treated in each way; the stale ones are there in the end."""
        batches = self.images.split(BATCH)
        treatments: dict[str, Callable[[], None]] = {
            "_stale": lambda: None,
            "_again": lambda: recalibrate(network, batches),
            "": lambda: shift_statistics(network, batches, self.statistics),
        }
        found: dict[str, float] = {}
        for suffix, treat in treatments.items():
            with keep_statistics(network):
                treat()
                said = self.proxy(network)
            found |= {f"drop{suffix}": said.drop, f"divergence{suffix}": said.divergence or 0.0}
        return found

    def random_plan(self, seed: int) -> Plan:
        """Formats and shares by lot; the common factor of the shares is the largest that the budget admits."""
        lot = random.Random(seed)
        chosen: list[tuple[RankCandidates, float]] = []
        for all_candidates in self.space.by_layer().values():
            chosen.append((lot.choice(all_candidates), math.exp(lot.gauss(0.0, SPREAD))))

        def at(level: float) -> Plan:
            factor = 4.0 * level
            return plan_of([(one, one.within(min(factor * share, 1.0) * one.dense_macs)) for one, share in chosen])

        return dearest_within(at, self.space)

    def untuned(self, plan: Plan) -> tuple[nn.Module, dict[str, float]]:
        """The network with every layer of ``plan`` decomposed for itself, and the errors of its kernels."""
        network, weighted, plain = copy_model(self.dense), 0.0, 0.0
        for choice in plan.choices:
            factored = self.decompose(choice)
            replace_layer(
                network, self.sites[choice.layer], chain_for(self.dense.get_submodule(choice.layer), factored)
            )
            plain += factored.relative_error
            weighted += factored.relative_error if factored.weighted_error is None else factored.weighted_error
        return network, {"weighted_errors": weighted, "plain_errors": plain}


def study(bench: Bench, seed: int, images: int, epochs: int) -> dict[str, Any]:
    """One plan: its proxies, and what it is worth in the end."""
    began, cpu = time.perf_counter(), time.process_time()
    plan = bench.random_plan(seed)
    network, proxies = bench.untuned(plan)
    proxies |= bench.proxies(network)
    recalibrate(network, bench.images.split(BATCH))
    untuned, searched = bench.lost(network), time.process_time() - cpu
    part = replace(bench.data, train=bench.data.train.take(torch.arange(images)))
    options = replace(NETWORK_TUNING, epochs=epochs, augmentation=Augmentation(), seed=0)
    after: list[dict[str, float]] = []
    train_on_images(
        network,
        part,
        options,
        teacher=bench.dense,
        execution=Execution.for_training(),
        select_on=bench.judges,
        on_progress=lambda _: after.append(bench.lost(network)),
    )
    return {
        "plan": plan.to_json(),
        "macs_share": network_cost(network, bench.data.example(1)).macs / bench.cost.macs,
        "proxies": proxies,
        "points_lost_untuned": untuned,
        "points_lost_tuned": after[-1],
        "cpu_seconds_before_tuning": round(searched, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "threads": torch.get_num_threads(),
        "command": command(),
    }


def correlations(rows: list[dict[str, Any]], images: str) -> dict[str, Any]:
    """Spearman's and Kendall's coefficient of each proxy with the points lost after fine-tuning; 95 % intervals."""
    outcome = np.array([row["points_lost_tuned"][images] for row in rows])
    drawn = np.random.default_rng(0).integers(0, len(rows), (SAMPLES, len(rows)))
    found: dict[str, Any] = {}
    for name in PROXIES:
        values = np.array([row["proxies"][name] for row in rows])
        found[name] = {
            "spearman": _with_interval(lambda x, y: float(spearmanr(x, y).statistic), values, outcome, drawn),
            "kendall": _with_interval(lambda x, y: float(kendalltau(x, y).statistic), values, outcome, drawn),
        }
    return found


def _with_interval(
    coefficient: Callable[[Any, Any], float], values: Any, outcome: Any, drawn: Any
) -> dict[str, float | list[float]]:
    """The coefficient, and between what it lies in 95 % of the bootstrap samples in which it is defined."""
    samples = [
        coefficient(values[index], outcome[index])
        for index in drawn
        if len(set(values[index])) > 1 and len(set(outcome[index])) > 1
    ]
    low, high = np.percentile(samples, [2.5, 97.5])
    return {"value": coefficient(values, outcome), "interval": [float(low), float(high)]}


def main() -> None:
    """Run the plans that are missing, then say how the proxies did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="polyadic:resnet20")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--budget", default="macs=50%")
    parser.add_argument("--plans", type=int, default=24)
    parser.add_argument("--images", type=int, default=5000, help="training images of the fine-tuning")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--name", default="proxy_study_resnet20_cifar10", help="of the results")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=Path("build/proxy_study"), help="a folder for factors")
    parser.add_argument("--figures", type=Path, default=Path("docs/algorithms/figures"))
    parser.add_argument("--summarise", action="store_true", help="run nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = RESULTS / f"{options.name}.json"
    if not options.summarise:
        if options.weights is None or options.data is None:
            parser.error("--weights and --data are needed to run plans")
        _run_missing(options, path)
    rows = [row for _, row in sorted(rows_in(path).items())]
    if len(rows) >= 3:
        found = {images: correlations(rows, images) for images in ("test", "held_out")}
        record(options.name, {"rows": rows_in(path), "correlations": found})
        write_figures(options.figures, rows, found["test"], PROXIES)
        for name, known in found["test"].items():
            print(
                name, {kind: (round(c["value"], 2), np.round(c["interval"], 2).tolist()) for kind, c in known.items()}
            )


def _run_missing(options: argparse.Namespace, path: Path) -> None:
    names = [f"plan {seed:02d}, {options.budget}, {options.images} x {options.epochs}" for seed in range(options.plans)]
    missing = [(seed, name) for seed, name in enumerate(names) if name not in rows_in(path)]
    if not missing:
        return
    dense = load_model(options.model, options.weights).model.eval()
    bench = Bench(dense, load_data(options.data, held_out=5000), options.budget, options.cache)
    for seed, name in missing:
        row = study(bench, seed, options.images, options.epochs)
        print(name, {key: value for key, value in row.items() if key not in ("plan", "command")}, flush=True)
        record(options.name, {"rows": {**rows_in(path), name: row}})


if __name__ == "__main__":
    main()
