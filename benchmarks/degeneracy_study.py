"""How CP decompositions of the kernels of trained networks degenerate as their rank grows (Phan et al., ECCV 2020).

    python benchmarks/degeneracy_study.py resnet56 --weights resnet56_cifar10.safetensors
    python benchmarks/degeneracy_study.py squeezenet --weights squeezenet1_1_imagenet.safetensors
    python benchmarks/degeneracy_study.py resnet18 --weights resnet18_imagenet_pq.safetensors
    python benchmarks/degeneracy_study.py --figures

Alternating least squares and stable CP, Levenberg-Marquardt on some layers, all with their default effort, one seed.
What is decomposed at which ranks stands in NETWORKS. Rows lie in build/degeneracy_study as they are measured, and a run
that was cut goes on. A row of the results is a line of text with the values of "columns"; medians are over the kernels
of a group. The last command draws the figures of docs/studies/degeneracy.md from the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from degeneracy_figures import draw
from record import RESULTS, command, environment, record
from zoo.libraries import torchvision_models

from polyadic.models import load_model
from polyadic.studies import DegeneracyOptions, degeneracy_study
from polyadic.surgery import find_layers

NAME = "degeneracy_study"
WORK = Path("build") / NAME
ENDS = ("als", "stable")
COLUMNS = (
    "layer",
    "method",
    "share",
    "rank",
    "relative_error",
    "intensity_ratio",
    "sum_squared_intensity",
    "sensitivity",
    "opposition",
    "degenerate",
    "sweeps",
)
LARGE = 10.0  # sum of squared intensities, as in polyadic.decomposition.diagnose


@dataclass(frozen=True)
class Run:
    """Layers by the ends of their names, each ``every``-th from ``first`` on; methods; shares of the even rank."""

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    layers: tuple[str, ...] = ("",)
    every: int = 1
    first: int = 0


@dataclass(frozen=True)
class Network:
    """A trained network; groups are layers whose names begin alike."""

    model: str
    example: tuple[int, ...]
    runs: tuple[Run, ...]
    groups: tuple[str, ...]
    shown: str  # the kernel whose intensities are kept


NETWORKS = {
    "resnet56": Network(
        "polyadic:resnet56",
        (1, 3, 32, 32),
        (
            Run(ENDS, (0.25,)),
            Run(("lm",), (0.25,), every=3, first=2),
            Run(ENDS, (0.125,)),
            Run(ENDS, (0.5,), every=3, first=2),
            Run(("lm",), (0.125,), every=3, first=2),
            Run(ENDS, (0.0625,)),
        ),
        ("conv1", *(f"layer{stage}" for stage in (1, 2, 3))),
        "layer3.8.conv1",
    ),
    "squeezenet": Network(
        "torchvision:squeezenet1_1",
        (1, 3, 64, 64),
        (Run(ENDS, (0.0625, 0.125, 0.25, 0.5), tuple(f"features.{at}.expand3x3" for at in (3, 6, 9, 12))),),
        ("features",),
        "features.12.expand3x3",
    ),
    "resnet18": Network(
        "torchvision:resnet18",
        (1, 3, 64, 64),
        (
            Run(ENDS, (0.0625,), ("layer2.1.conv1", "layer3.1.conv1", "layer4.1.conv1")),
            Run(ENDS, (0.125,), ("layer2.1.conv1", "layer3.1.conv1")),
        ),
        ("layer2", "layer3", "layer4"),
        "layer4.1.conv1",
    ),
}


def studied(network: Network, weights: Path, folder: Path, only: int | None) -> Iterator[list[dict[str, Any]]]:
    """Rows, share by share, of the run ``only`` or of all; those in ``folder`` are not measured again."""
    if network.model.startswith("torchvision"):
        torchvision_models()  # defines the schemas that some builds of it lack
    model, example = load_model(network.model, weights).model, torch.zeros(network.example)
    windows = [site.name for site in find_layers(model, example) if site.spec is not None and site.spec.taps > 1]
    for number, run in enumerate(network.runs):
        if only not in (None, number):
            continue
        layers = tuple(name for name in windows if name.endswith(run.layers))[run.first :: run.every]
        for share in run.shares:
            options = DegeneracyOptions(
                methods=run.methods, shares=(share,), layers=layers, work=folder / str(number), resume=True
            )
            study = degeneracy_study(model, example, options, on_progress=lambda *told: print(*told, flush=True))
            yield [{**row, "share": share} for row in study.records()]


def line(row: Mapping[str, Any]) -> str:
    """A row as text, with four digits."""
    cells = (row[column] for column in COLUMNS)
    return ", ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)


def medians(rows: list[dict[str, Any]], groups: tuple[str, ...]) -> dict[str, Any]:
    """Over the kernels of a group, by method and share; extremes of what may grow."""
    found: dict[str, Any] = {}
    for group in groups:
        within = [row for row in rows if row["layer"].startswith(group)]
        for method, share in dict.fromkeys((row["method"], row["share"]) for row in within):
            chosen = [row for row in within if (row["method"], row["share"]) == (method, share)]
            entry: dict[str, Any] = {
                "kernels": len(chosen),
                "degenerate": sum(row["degenerate"] for row in chosen),
                "long": sum(row["sum_squared_intensity"] > LARGE for row in chosen),
            }
            for column in ("relative_error", "intensity_ratio", "sum_squared_intensity", "sensitivity"):
                values = [row[column] for row in chosen]
                entry[column] = " ".join(f"{value:.4g}" for value in (median(values), min(values), max(values)))
            found[f"{group} {method} {share:g}"] = entry
    return found


def keep(name: str, network: Network, rows: list[dict[str, Any]]) -> Path:
    """Write this network's figures beside those of the others."""
    path = RESULTS / f"{NAME}.json"
    others = json.loads(path.read_text())["networks"] if path.exists() else {}
    last = max((row["rank"] for row in rows if row["layer"] == network.shown), default=0)
    figures = {
        "command": command(),
        "environment": environment(),
        "medians (median, least, most)": medians(rows, network.groups),
        "intensities": {
            f"{row['layer']} {row['method']} {row['rank']}": " ".join(f"{value:.3g}" for value in row["intensities"])
            for row in rows
            if row["layer"] == network.shown and (row["rank"] == last)
        },
        "columns": ", ".join(COLUMNS),
        "rows": [line(row) for row in rows],
    }
    return record(NAME, {"networks": {**others, name: figures}})


def main() -> None:
    """Study one network, or draw what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=tuple(NETWORKS), nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--run", type=int, help="measure this run alone, beside other processes, and write no results")
    parser.add_argument("--figures", action="store_true", help="draw the figures of the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.network and options.weights:
        network = NETWORKS[options.network]
        rows: list[dict[str, Any]] = []
        for found in studied(network, options.weights, WORK / options.network, options.run):
            rows += found
            print("\n".join(map(line, found)), flush=True)
            if options.run is None:
                print(keep(options.network, network, rows), flush=True)
    elif options.network:
        parser.error("--weights: which trained weights?")
    if options.figures:
        print("\n".join(map(str, draw(RESULTS))))


if __name__ == "__main__":
    main()
