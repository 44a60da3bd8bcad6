"""What stability is worth to a whole network: every kernel by cp-als or by cp-epc, fine-tuned alike at several rates.

    python benchmarks/stability_network.py --weights resnet20_cifar10.safetensors --data npz:build/data/cifar10

One ratio for all 3 x 3 kernels but the first, the same ranks for every method, plain norm (no images enter). The whole
network is fine-tuned by ``train_on_images`` on the labels at a constant rate, with its default clipping of gradients;
scores are of held-out training images after each epoch, whether good or bad, so they are not those of the state that
``train_on_images`` leaves. A row that is in the results already is not run again.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from data_aware import uniform_plan
from record import RESULTS, command, record, rows_in
from torch import nn

from polyadic.data import ImageData, ImageSet, load_data
from polyadic.formats import format_named
from polyadic.models import load_model
from polyadic.surgery import (
    FactorCache,
    default_cache_directory,
    find_layers,
    layer_at,
    network_cost,
    replace_one_by_one,
)
from polyadic.training import Execution, FinetuneOptions, score_images, train_on_images

NAME = "stability_network_resnet20"
METHODS = ("cp-als", "cp-epc", "cp-als-epc")
RATES = (0.01, 0.001, 0.1, 0.03, 0.003)


def decomposed(dense: nn.Module, method: str, ratio: float, data: ImageData) -> tuple[nn.Module, dict[str, Any]]:
    """The network with all its kernels factorised, and how well they were."""
    example, fmt, cache = data.example(1), format_named(method), FactorCache(default_cache_directory())
    sites = find_layers(dense, example)
    plan = uniform_plan(
        dense, [s for s in sites if s.spec and s.spec.taps > 1 and s.spec.in_channels > 3], ratio, example
    )
    network, kernels = replace_one_by_one(
        dense,
        plan,
        lambda choice, kernel, norm: cache.factorise(
            kernel, layer_at(dense, choice.layer)[2], fmt, choice.rank, 0, norm
        ),
    )
    sensitivities = sorted(kernel.sensitivity or 0.0 for kernel in kernels.values())
    return network, {
        "layers": len(kernels),
        "macs_ratio": network_cost(dense, example).macs / network_cost(network, example).macs,
        "mean_error": sum(kernel.relative_error for kernel in kernels.values()) / len(kernels),
        "median_sensitivity": sensitivities[len(sensitivities) // 2],
        "largest_sensitivity": sensitivities[-1],
    }


def tuned(network: nn.Module, data: ImageData, judge: ImageSet, options: FinetuneOptions) -> dict[str, Any]:
    """One run of fine-tuning; the network itself stays as it is."""
    report = train_on_images(copy.deepcopy(network), data, options, select_on=judge)
    return {
        "scores": [record.score for record in report.history],
        "losses": [record.score_loss for record in report.history],
        "diverged": any(record.diverged for record in report.history),
        "stop": report.stop.name,
        "seconds": round(report.seconds, 1),
    }


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--ratio", type=float, default=2.0, help="how many times fewer multiply-accumulates")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50, help="of 128 images, per epoch")
    parser.add_argument("--images", type=int, default=1000, help="held-out images per score")
    parser.add_argument("--methods", nargs="+", default=METHODS[:2], choices=METHODS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_data(options.data)
    judge = data.held_out.take(torch.arange(options.images))
    dense = load_model("polyadic:resnet20", weights=options.weights).model
    rough = Execution.for_training()
    dense_score = score_images(dense, judge, data.normalise).value
    networks = {method: decomposed(dense, method, options.ratio, data) for method in options.methods}
    for rate in options.rates:
        for method, (network, factors) in networks.items():
            rows, name = rows_in(RESULTS / f"{NAME}.json"), f"{method} {options.ratio:g}x {rate:g}"
            if name in rows:
                continue
            plan = FinetuneOptions(
                epochs=options.epochs,
                steps_per_epoch=options.steps,
                learning_rate=rate,
                patience=options.epochs + 1,  # a constant rate: no epoch counts as saturation
                retries=0,
            )
            rows[name] = {
                **factors,
                "method": method,
                "ratio": options.ratio,
                "rate": rate,
                "score_before": score_images(network, judge, data.normalise).value,
                f"score_before_{rough.precision}": score_images(network, judge, data.normalise, execution=rough).value,
                **tuned(network, data, judge, plan),
                "precision": rough.precision,
                "command": command(),
            }
            print(name, rows[name], flush=True)
            record(NAME, {"dense_score": dense_score, "rows": rows})


if __name__ == "__main__":
    main()
