"""What a network keeps when its 3 x 3 kernels are decomposed at one ratio, with images and without; untrained.

    python benchmarks/data_aware.py --weights resnet56_cifar10.safetensors --data npz:build/data/cifar10

Every row is one compressed network: how its kernels were decomposed (``als``, ``als-epc``, ``homotopy``), what the
images were used for (``plain`` to ``full``, see USES), how many times fewer multiply-accumulates the whole network
takes, from how many unlabelled training images. A row that is in the results already is not run again;
``--rows`` chooses rows by a regular expression, ``--fresh`` runs them all the same.

All constants were chosen by the Kullback-Leibler divergence from the dense network on held-out training images, plain
and distorted; the test images are read once, for the figure in the row.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, command, record, rows_in
from torch import Tensor, nn

from polyadic.data import ImageData, load_data
from polyadic.decomposition import BoundedOptions, RidgeOptions, StableOptions
from polyadic.formats import CPFormat
from polyadic.models import load_model
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import (
    SequentialOptions,
    find_layers,
    layer_at,
    network_cost,
    recalibrate_if_better,
    replace_in_sequence,
    replace_one_by_one,
)
from polyadic.training import score_images

RATIOS = (2.0, 2.8, 3.5)
MIDDLE = 2.8
IMAGES = 1000
JUDGED = 3000  # held-out images that decide on batch-norm statistics

STABLE = StableOptions(ridge=RidgeOptions(weakest=1e-6, share=0.0, weakening=2.0), fit=BoundedOptions(max_sweeps=1))
METHODS = {
    "als": CPFormat("cp-als"),
    "als-epc": CPFormat("cp-als-epc"),
    "homotopy": CPFormat("cp-epc", stable=STABLE),
}
NOTHING = SequentialOptions(inputs="dense", correct=False, refit=False, repair=False, correct_dense=False)
USES: dict[str, SequentialOptions | None] = {
    "plain": None,  # no images: the plain norm
    "sigma": NOTHING,  # the norm of the dense network's inputs
    "sequential": replace(NOTHING, inputs="compressed"),  # that of the inputs in the network compressed so far
    "asymmetric": replace(NOTHING, inputs="compressed", correct=True),  # and the kernel corrected for them
    "refit": SequentialOptions(repair=False, correct_dense=False),  # and last stage and bias refitted
    "repair": SequentialOptions(correct_dense=False),  # and shortcuts repaired
    "full": SequentialOptions(),  # and layers that stay dense corrected too: the classifier
}


@dataclass(frozen=True)
class Row:
    """One network to make."""

    method: str
    use: str
    ratio: float
    images: int = IMAGES

    @property
    def name(self) -> str:
        """Its key in the results."""
        return f"{self.method} {self.use} {self.ratio:g}x {self.images}"


def rows() -> list[Row]:
    """The headline, how many images it takes, and what each part is worth."""
    headline = [Row("homotopy", "full", ratio) for ratio in RATIOS]
    fewer = [Row("homotopy", "full", MIDDLE, images) for images in (10, 100)]
    parts = [Row(method, use, MIDDLE) for use in USES for method in METHODS]
    others = [Row("homotopy", use, ratio) for use in ("plain", "sigma", "refit") for ratio in RATIOS]
    return list(dict.fromkeys([*headline, *fewer, *parts, *others]))


def uniform_plan(dense: nn.Module, sites: list[LayerSite], ratio: float, example: Tensor) -> Plan:
    """One ratio for every layer such that the whole network takes at most ``1 / ratio`` of its operations."""
    total, fmt = network_cost(dense, example).macs, METHODS["als"]

    def ranks(share: float) -> list[int]:
        found = []
        for site in sites:
            one = site.chain_macs(fmt.stages(site.spec, (1,)))  # a chain costs a multiple of its rank
            found.append(max(int(share * site.macs / one), 1))
        return found

    def macs(share: float) -> int:
        chains = (site.chain_macs(fmt.stages(site.spec, (R,))) for site, R in zip(sites, ranks(share), strict=True))
        return total - sum(site.macs for site in sites) + sum(chains)

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(middle) <= total / ratio else (low, middle)
    return Plan(tuple(Choice(site.name, "cp-epc", (R,)) for site, R in zip(sites, ranks(low), strict=True)))


def divergence(dense: nn.Module, images: Tensor) -> Callable[[nn.Module], float]:
    """A score without labels: minus the Kullback-Leibler divergence of the outputs from those of the dense network."""
    with torch.no_grad():
        wanted = [dense(batch).log_softmax(1) for batch in images.split(500)]

    def score(model: nn.Module) -> float:
        total = 0.0
        with torch.no_grad():
            for batch, log_p in zip(images.split(500), wanted, strict=True):
                total += float((log_p.exp() * (log_p - model(batch).log_softmax(1))).sum())
        return -total / len(images)

    return score


@dataclass(frozen=True)
class Bench:
    """The dense network and the images."""

    dense: nn.Module
    data: ImageData
    held_out: Tensor

    def run(self, row: Row) -> dict[str, Any]:
        """One row."""
        calibration = self.data.normalise(self.data.train.images(torch.arange(row.images)))
        example, fmt = calibration[:1], METHODS[row.method]
        sites = find_layers(self.dense, example)
        kernels_of = [site for site in sites if site.spec and site.spec.taps > 1 and site.spec.in_channels > 3]
        plan = uniform_plan(self.dense, kernels_of, row.ratio, example)

        def factorise(choice: Choice, kernel: Tensor, norm: Any) -> Any:
            return fmt.factorise(kernel, layer_at(self.dense, choice.layer)[2], choice.rank, 0, norm)

        options, score = USES[row.use], divergence(self.dense, self.held_out)
        began = time.perf_counter()
        if options is None:
            network, kernels = replace_one_by_one(self.dense, plan, factorise)
        else:
            network, kernels = replace_in_sequence(self.dense, plan, factorise, calibration, sites, options=options)
        walked = time.perf_counter() - began
        kept, before, after = recalibrate_if_better(network, calibration.split(250), score)
        seconds = time.perf_counter() - began
        test = score_images(network, self.data.test, self.data.normalise)
        errors = [kernel.weighted_error or kernel.relative_error for kernel in kernels.values()]
        sensitivities = sorted(kernel.sensitivity or 0.0 for kernel in kernels.values())
        return {
            **vars(row),
            "layers": len(plan.choices),
            "macs_ratio": network_cost(self.dense, example).macs / network_cost(network, example).macs,
            "params_ratio": network_cost(self.dense, example).params / network_cost(network, example).params,
            "test_accuracy": test.value,
            "held_out_divergence": -max(before, after) if kept else -before,
            "batch_norms_recalibrated": kept,
            "mean_error": sum(errors) / len(errors),
            "median_sensitivity": sensitivities[len(sensitivities) // 2],
            "seconds": seconds,
            "seconds_without_recalibration": walked,
            "threads": torch.get_num_threads(),
            "command": command(),
        }


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="polyadic:resnet56")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", default="", help="regular expression that a row's name must contain")
    parser.add_argument("--fresh", action="store_true", help="run rows that are in the results already")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    chosen = [row for row in rows() if re.search(options.rows, row.name)]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return
    torch.set_num_threads(options.threads)
    name = f"data_aware_{options.weights.stem}"
    kept = RESULTS / f"{name}.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    results = rows_in(kept)
    data = load_data(options.data, held_out=5000)
    dense = load_model(options.model, options.weights).model.eval().to(memory_format=torch.channels_last)
    held_out = data.normalise(data.held_out.images(torch.arange(JUDGED))).contiguous(memory_format=torch.channels_last)
    bench = Bench(dense, data, held_out)
    dense_score = figures.get("dense") or {"test_accuracy": score_images(dense, data.test, data.normalise).value}
    for row in chosen:
        if row.name in results and not options.fresh:
            continue
        outcome = bench.run(row)
        print(row.name, outcome, flush=True)
        results = {**rows_in(kept), row.name: outcome}  # another process may have written rows meanwhile
        record(name, {"dense": dense_score, "rows": results})


if __name__ == "__main__":
    main()
