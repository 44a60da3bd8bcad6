"""How much of a cut in multiply-accumulates becomes time: each format alone, and the mixture that times choose.

    python benchmarks/realised_share.py --model polyadic:resnet56 --weights resnet56_cifar10.safetensors \
        --data npz:build/data/cifar10 --engine onnxruntime --batch 32 --threads 2 --faster 2.2

All rows of an engine and a batch have the same budget of latency: the dense network's time over ``--faster``. A row is
one set of formats: one format alone, or all of them (``mixture``), the format of each layer chosen by time. Within a
row the same bound on the error of every kernel, in the norm of its inputs, holds for all layers, the smallest that the
budget allows; with ``--search uniform`` every layer keeps the same share of its time, in the format that does most
multiply-accumulates in it. Nothing is fine-tuned; the test images are read once, for the figure in the row, or with
``--forecast`` not at all: a plan is made and timed, and no weight is touched. At the end all networks of the rows run
in turns with the dense one: speed-up, and the share of the cut in MACs that it is. A row that is in the results already
is carried out again from its plan, and timed with the others.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, command, record, rows_in
from torch import Tensor, nn
from zoo.libraries import torchvision_models

from polyadic import CompressionResult, CompressOptions, compress, fold_and_merge
from polyadic.data import ImageData, load_data
from polyadic.engines import (
    Conditions,
    LatencyCache,
    LatencyModel,
    Prepared,
    draw_weights,
    engine_named,
    time_interleaved,
)
from polyadic.errors import BudgetError
from polyadic.models import load_model
from polyadic.pipeline import CostEstimate, estimate_cost
from polyadic.schema import Plan
from polyadic.search import search_named
from polyadic.surgery import FactorCache, copy_model, rebuild
from polyadic.training import ImageTask

SINGLE = ("cp-epc", "tucker2", "tkd-cpd-epc", "spatial-svd")
MIXTURE = "mixture"


def formats_of(name: str, given: argparse.Namespace) -> tuple[str, ...]:
    """Formats of a row; 1x1 kernels and matrices always have the SVD."""
    single = tuple(given.formats)
    return (*single, "svd") if name == MIXTURE else (name, "svd")


def searched(name: str, dense: nn.Module, data: ImageData, given: argparse.Namespace) -> dict[str, Any]:
    """One row: the plan, what it costs, and what the network scores untuned."""
    model = latency_model(given)
    options = CompressOptions(
        search=search_named(given.search),
        latency=model,
        candidates_per_layer=given.candidates_per_layer,
        round_to=given.round_to,
        cache=FactorCache(given.cache),
        moment_batches=given.moment_batches,
    )
    asked: dict[str, Any] = {"budget": [f"latency={given.faster}x"], "formats": formats_of(name, given)}
    task, began = ImageTask(data, layer=None, network=None), time.perf_counter()
    try:
        if given.forecast:
            row = forecast_row(estimate_cost(dense, data.example(1), **asked, options=options))
        else:
            row = carried_out_row(compress(dense, task, **asked, options=options))
    except BudgetError as error:
        return {"impossible": str(error)}
    counts = Counter(choice["format"] for choice in row["plan"])
    known = {"layers_by_format": dict(counts), "minutes": round((time.perf_counter() - began) / 60, 2)}
    return {**row, **known, "command": command()}


def carried_out_row(result: CompressionResult) -> dict[str, Any]:
    """What a network that was carried out costs and scores."""
    summary = result.summary
    return {
        "macs_ratio": summary.mac_reduction,
        "params_ratio": summary.dense.params / summary.compressed.params,
        "dense_accuracy": summary.dense_score,
        "test_accuracy": summary.score_before_finetuning,
        "points_lost": 100 * (summary.dense_score - summary.score_before_finetuning),
        "points_lost_interval": summary.drop_interval,
        "layers_dense": sum(layer.status == "dense" for layer in summary.layers),
        "speed": summary.provenance.get("latency"),
        "plan": summary.plan.to_json(),
    }


def forecast_row(found: CostEstimate) -> dict[str, Any]:
    """What a plan costs that was never carried out."""
    return {
        "macs_ratio": found.dense.macs / found.cost.macs,
        "params_ratio": found.dense.params / found.cost.params,
        "speed": None if found.speed is None else found.speed.to_json(),
        "plan": found.plan.to_json(),
    }


def timed(rows: dict[str, Any], dense: nn.Module, example: Tensor, given: argparse.Namespace) -> None:
    """Run all networks in turns and write speed-ups and shares into their rows."""
    engine, conditions = engine_named(given.engine), conditions_of(given)
    batch = example[:1].expand(given.batch, *example.shape[1:]).contiguous()

    def made_ready(network: nn.Module) -> Prepared:
        return engine.prepare(fold_and_merge(network, example).model if given.folded else network, batch, conditions)

    prepared = {"dense": made_ready(dense)}
    for name, row in rows.items():
        if "plan" in row:
            network = rebuild(copy_model(dense), Plan.from_json(row["plan"])).eval()
            for choice in row["plan"]:
                draw_weights(network.get_submodule(choice["layer"]))  # weights do not change times
            prepared[name] = made_ready(network)
    with engine.at_work():
        times = time_interleaved(
            {name: network.once for name, network in prepared.items()}, rounds=given.rounds, seconds=given.seconds
        )
    for name, row in rows.items():
        if name in times:
            faster = times[name].times_faster_than(times["dense"])
            row["dense_ms"], row["ms"] = times["dense"].median, times[name].median
            row["speed_up"], row["speed_up_quartiles"] = faster.median, [faster.low, faster.high]
            row["realised_share"] = faster.median / row["macs_ratio"]


def latency_model(given: argparse.Namespace) -> LatencyModel:
    """Times of blocks, kept in the cache folder."""
    return LatencyModel(engine_named(given.engine), conditions_of(given), LatencyCache(given.cache / "times"))


def conditions_of(given: argparse.Namespace) -> Conditions:
    """What all times are times of."""
    return Conditions(given.batch, given.threads, given.precision)


def main() -> None:
    """Search the rows that are missing, time all, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="polyadic:resnet56")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--faster", type=float, default=2.2, help="budget: so many times faster than the dense network")
    parser.add_argument("--formats", nargs="+", default=list(SINGLE))
    parser.add_argument("--rows", default="", help="regular expression that a row's name must contain to be searched")
    parser.add_argument(
        "--folded", action="store_true", help="time networks with batch norms folded, the dense one too"
    )
    parser.add_argument("--search", default="error-bound", choices=("error-bound", "uniform"))
    parser.add_argument("--forecast", action="store_true", help="do not carry plans out: for large networks")
    parser.add_argument("--round-to", type=int, help="ranks are multiples of it")
    parser.add_argument("--candidates-per-layer", type=int, default=8, help="ranks of each layer and format")
    parser.add_argument("--moment-batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cache", type=Path, default=Path("build/realised_share"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = load_data(given.data)
    if given.model.startswith("torchvision"):
        torchvision_models()  # defines the schemas that some builds of it lack
    dense = load_model(given.model, given.weights, data.classes if not given.model.startswith("polyadic:") else None)
    name = f"realised_share_{re.sub('[^a-z0-9]+', '_', given.model.split(':')[-1].lower())}"
    results = rows_in(RESULTS / f"{name}.json")
    how = ("" if given.search == "error-bound" else f" {given.search}") + (" folded" if given.folded else "")
    how += f" ranks of {given.round_to}" if given.round_to else ""
    place = f"{given.engine} {given.precision} batch {given.batch} {given.threads} threads {given.faster:g}x{how}"
    rows = results.setdefault(place, {})
    for row in (*given.formats, MIXTURE):
        if row not in rows and re.search(given.rows, row):
            rows[row] = searched(row, dense.model, data, given)
            print(row, {key: value for key, value in rows[row].items() if key != "plan"}, flush=True)
            record(name, {"rows": results})
    timed(rows, dense.model, data.example(1), given)
    record(name, {"rows": results})
    for row, found in rows.items():
        print(place, row, {key: found.get(key) for key in ("macs_ratio", "speed_up", "realised_share", "points_lost")})


if __name__ == "__main__":
    main()
