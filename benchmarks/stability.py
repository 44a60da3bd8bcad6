"""What stability is worth: one layer replaced by cp-als, cp-als-epc or cp-epc, then fine-tuned alike at rising rates.

    python benchmarks/stability.py --weights resnet20_cifar10.safetensors --data npz:build/data/cifar10

Three layers, three ranks, plain norm (no images enter the decomposition). Only the replaced layer moves: SGD on the
labels at a constant rate. Reported per method: error, sensitivity, accuracy on held-out training images before and
after, and the largest rate that survives, which means: at the end, without any best state kept, no more than a point is
lost against the start. ``--methods`` and ``--layers`` run some rows alone and keep the others as they are.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from record import RESULTS, command, record
from torch import nn

from polyadic.data import ImageData, ImageSet, load_data
from polyadic.formats import format_named
from polyadic.models import load_model
from polyadic.schema import LayerSite
from polyadic.surgery import FactorCache, chain_for, default_cache_directory, find_layers, layer_at, swap_layer
from polyadic.training import Execution, place_model, score_images

LAYERS = ("layer1.1.conv1", "layer2.1.conv1", "layer3.1.conv1")
KEPT = (0.5, 0.3, 0.15)  # share of the layer's multiply-accumulates that the rank leaves
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
NAME = "stability_resnet20"
METHODS = ("cp-als", "cp-als-epc", "cp-epc")


@dataclass(frozen=True)
class Bench:
    """The dense network, the images and how they run."""

    dense: nn.Module
    data: ImageData
    judge: ImageSet
    execution: Execution
    steps: int
    cache: FactorCache

    def score(self) -> float:
        """Accuracy of the network as it stands, on the held-out images."""
        return score_images(self.dense, self.judge, self.data.normalise, execution=self.execution).value

    def compare(self, site: LayerSite, rank: int, method: str) -> dict[str, Any]:
        """One method at one rank of one layer."""
        began = time.perf_counter()
        layer, weight, spec = layer_at(self.dense, site.name)
        factored = self.cache.factorise(weight.detach(), spec, format_named(method), (rank,), 0)
        start, after = 0.0, {}
        for rate in (0.0, *RATES):
            chain = chain_for(layer, factored)
            with swap_layer(self.dense, site, chain):
                if rate == 0.0:
                    start = self.score()
                else:
                    after[str(rate)] = self.score() if self.train(chain, rate) else 0.0
        surviving = [rate for rate in RATES if after[str(rate)] >= start - 0.01]
        return {
            "layer": site.name,
            "rank": rank,
            "method": method,
            "relative_error": factored.relative_error,
            "sensitivity": factored.sensitivity,
            "intensity_ratio": factored.intensity_ratio,
            "score_before": start,
            "score_after": after,
            "best_score_after": max(after.values()),
            "surviving_rate": max(surviving, default=0.0),
            "seconds": round(time.perf_counter() - began, 1),
            "command": command(),
        }

    def train(self, chain: nn.Module, rate: float) -> bool:
        """Seeded SGD with momentum that moves ``chain`` alone; False once the loss is not finite."""
        generator = torch.Generator().manual_seed(0)
        self.dense.requires_grad_(False)
        chain.requires_grad_(True)
        optimizer = torch.optim.SGD(chain.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
        with place_model(self.dense, self.execution):
            for _ in range(self.steps):
                index = torch.randint(len(self.data.train), (128,), generator=generator)
                x = self.execution.place(self.data.normalise(self.data.train.images(index)))
                with self.execution.autocast():
                    logits = self.dense(x)
                loss = F.cross_entropy(logits.float(), self.data.train.labels[index].to(logits.device))
                if not math.isfinite(float(loss)):
                    return False
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return True


def main() -> None:
    """Run all combinations and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--images", type=int, default=2000, help="held-out images per score")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--layers", nargs="+", default=LAYERS, choices=LAYERS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_data(options.data)
    dense = copy.deepcopy(load_model("polyadic:resnet20", weights=options.weights).model)
    judge = data.held_out.take(torch.arange(options.images))
    cache = FactorCache(default_cache_directory())
    bench = Bench(dense, data, judge, Execution.for_training(), options.steps, cache)
    sites = {site.name: site for site in find_layers(dense, data.example(1))}
    dense_score = bench.score()
    for layer in options.layers:
        spec = sites[layer].spec
        assert spec is not None
        full, per_rank = spec.params, spec.taps + spec.in_channels + spec.out_channels
        for kept in KEPT:
            for method in options.methods:
                row = bench.compare(sites[layer], max(1, round(kept * full / per_rank)), method)
                print(row, keep(row, dense_score, options.steps), flush=True)


def keep(row: dict[str, Any], dense_score: float, steps: int) -> Path:
    """Write ``row`` in the place of an earlier one of its layer, rank and method, beside the others."""
    path, place = RESULTS / f"{NAME}.json", itemgetter("layer", "rank", "method")
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [*(other for other in rows if place(other) != place(row)), row]
    rows.sort(key=lambda row: (LAYERS.index(row["layer"]), -row["rank"], METHODS.index(row["method"])))
    return record(NAME, {"dense_score": dense_score, "steps": steps, "rows": rows})


if __name__ == "__main__":
    main()
