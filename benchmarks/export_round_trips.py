"""How far networks are from themselves in ONNX Runtime, in OpenVINO and as programs of torch.export.

    python benchmarks/export_round_trips.py --weights FOLDER --data npz:build/data/cifar10 --threads 1

Every network is a row for each of its variants: ``dense``; ``chains``, every layer that a format serves with two times
fewer parameters, Tucker-2 for windows and the SVD for matrices; ``trains``, matrix tensor trains at the same ratio. The
ResNets for CIFAR-10 are trained ones (``FOLDER/resnet20_cifar10.safetensors`` and the like) and compared on images;
the others have random weights under which every layer counts, and are compared on random normal numbers. A file is run
at batch 1 and 2; the worse of both stands in the row. Seconds are those of the processor for all three files: to trace,
write, load and run them.

A row that is in the results already is not run again; ``--only`` chooses rows by a regular expression, ``--fresh`` runs
them all the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record, rows_in
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from zoo.measure import factorise_in, plan_within
from zoo.networks import NETWORKS

from polyadic.data import load_data
from polyadic.errors import PolyadicError
from polyadic.export import FILE_FORMATS, ExportedFile, export_network
from polyadic.models import load_model
from polyadic.surgery import TTMatrix, decompose_, find_layers, network_cost, replace_one_by_one

NAME = "export_round_trips"
RATIO = 2.0
LARGEST = 1.6e7  # parameters of a layer that is decomposed, as in the zoo
BATCH = 2
LIBRARY = (
    "torchvision:resnet18",
    "torchvision:vgg16_bn",
    "torchvision:mobilenet_v2",
    "torchvision:lraspp_mobilenet_v3_large",
    "own:unet",
    "own:m5",
    "own:oddities",
)


@dataclass(frozen=True)
class Row:
    """A network in one variant."""

    network: str
    variant: str
    build: Callable[[], tuple[nn.Module, Tensor, bool]]

    @property
    def name(self) -> str:
        """Its key in the results."""
        return f"{self.network}, {self.variant}"


def rows(weights: Path | None, data: str | None) -> list[Row]:
    """All rows."""
    found = []
    for name in ("resnet20", "resnet56"):
        build = partial(cifar, name, weights, data)
        variants = ("dense", "chains", "trains") if name == "resnet20" else ("dense", "chains")
        found += [Row(f"polyadic:{name}", variant, build) for variant in variants]
    for name in LIBRARY:
        found += [Row(name, variant, partial(library, name)) for variant in ("dense", "chains")]
    return found


def cifar(name: str, weights: Path | None, data: str | None) -> tuple[nn.Module, Tensor, bool]:
    """A ResNet for CIFAR-10, trained, and images; without files random weights and numbers."""
    file = weights / f"{name}_cifar10.safetensors" if weights is not None else None
    model = load_model(f"polyadic:{name}", file).model
    if data is None:
        return model, normal(BATCH, 3, 32, 32), False
    return model, load_data(data).example(BATCH), True


def library(name: str) -> tuple[nn.Module, Tensor, bool]:
    """A network of the zoo."""
    network = NETWORKS[name]
    if network.absent is not None:
        raise PolyadicError(network.absent)
    return network.build(), normal(BATCH, *network.shape[1:]), False


def normal(*shape: int) -> Tensor:
    """Normal numbers, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def variant_of(dense: nn.Module, example: Tensor, variant: str) -> nn.Module:
    """The network as it is, as chains, or with tensor trains."""
    if variant == "dense":
        return dense
    sites = find_layers(dense, example)
    if variant == "chains":
        plan = plan_within(sites, RATIO, LARGEST).plan
        return replace_one_by_one(dense, plan, factorise_in(dense))[0]
    model = copy.deepcopy(dense)
    windows = [site.name for site in sites if site.reason is None and site.spec is not None and site.spec.taps > 1]
    decompose_(model, {name: TTMatrix(ratio=RATIO) for name in windows[1:]}, example)  # not the first, of 3 channels
    return model


def measured(row: Row) -> dict[str, Any]:
    """Write a network to each format and compare."""
    dense, inputs, real = row.build()
    model = variant_of(dense, inputs[:1], row.variant)
    cost = network_cost(model, inputs[:1])
    found: dict[str, Any] = {
        "input": list(inputs.shape),
        "compared_on": "images" if real else "random normal numbers",
        "params": cost.params,
        "weight_bytes": cost.bytes,
        "files": {},
    }
    began = time.process_time()
    try:
        found["files"] = outcomes(model, inputs, real, list(FILE_FORMATS))
    except PolyadicError:  # one of them fails, and all are written or none
        for target in FILE_FORMATS:
            try:
                found["files"] |= outcomes(model, inputs, real, [target])
            except PolyadicError as error:
                found["files"][target] = {"error": str(error)}
    return {**found, "seconds": time.process_time() - began}


def outcomes(model: nn.Module, inputs: Tensor, real: bool, targets: list[str]) -> dict[str, Any]:
    """The files of some formats, by format; they are thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {target: Path(folder) / f"model{FILE_FORMATS[target].suffixes[0]}" for target in targets}
        return {file.target: outcome(file) for file in export_network(model, paths, inputs, real=real)}


def outcome(file: ExportedFile) -> dict[str, Any]:
    """The worst of all batches."""
    worst = max(file.comparisons, key=lambda comparison: comparison.relative)
    agreements = [c.top1_agreement for c in file.comparisons if c.top1_agreement is not None]
    figures = {key: value for key, value in asdict(worst).items() if key in ("relative", "max_difference")}
    return {
        **figures,
        "top1_agreement": min(agreements, default=None),
        "bytes": file.bytes,
        "engine": file.engine,
    }


def main() -> None:
    """Measure what is missing and write each row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of trained weights")
    parser.add_argument("--data", help="CIFAR-10, as in polyadic compress")
    parser.add_argument("--only", default="", help="regular expression that a row's name must contain")
    parser.add_argument("--fresh", action="store_true", help="run rows that are in the results already")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = rows(options.weights, options.data)
    for row in table:
        known = rows_in(RESULTS / f"{NAME}.json")
        if not re.search(options.only, row.name) or (row.name in known and not options.fresh):
            continue
        known[row.name] = measured(row)
        print(f"{row.name}: {json.dumps(known[row.name])}", flush=True)
        record(NAME, {"ratio": RATIO, "rows": {r.name: known[r.name] for r in table if r.name in known}})


if __name__ == "__main__":
    main()
