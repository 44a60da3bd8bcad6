"""How much norm the kernels of three networks can lose: ResNet-20, ResNet-56 and a plain network of four convolutions.

    python benchmarks/truncation_study.py four-layer-cnn --data npz:build/data/cifar10
    python benchmarks/truncation_study.py resnet56 --data npz:build/data/cifar10 --weights resnet56_cifar10.safetensors
    python benchmarks/truncation_study.py

The network of four convolutions is trained first, and its weights are kept. ``--folder`` is where a study keeps its
rows, ``build/truncation_study/NETWORK`` if absent: an interrupted study goes on, and one that is there in whole, also
one made by ``polyadic analyze truncation``, is summarised as it is. Without the name of a network all that are there
are summarised again.

The results hold no single rows but what they come to: ``truncation_summary.py`` says how. Figures for the page are
drawn by ``truncation_figures.py``. A control of this script alone: each layer with a kernel of zeros, all of its norm
lost. Seconds are of processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from record import RESULTS, command, environment, record
from torch import nn
from truncation_figures import write_figures
from truncation_summary import summary

from polyadic.data import ImageData, load_data
from polyadic.models import ZOO, load_weights
from polyadic.storage import write_together
from polyadic.studies import TruncationOptions, truncation_study, write_truncation
from polyadic.studies.scoring import replace_kernels
from polyadic.training import Execution, FinetuneOptions, score_images, train_on_images

NAME = "truncation_study"
WORK = Path("build/truncation_study")
FIGURES = Path("docs/studies/figures")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRAINING = FinetuneOptions(
    epochs=10, learning_rate=0.05, schedule="cosine", warmup=0.1, weight_decay=5e-4, score_precision="bfloat16"
)
"""Of the network of four convolutions. No other rates were tried."""

TOLD = ("epochs", "batch_size", "learning_rate", "schedule", "warmup", "weight_decay", "seed")
"""What the results say of it."""


RETRAINED = (("o|ihw+i|ohw", 0.25),)
"""The joint truncation of all layers that is trained again."""


@dataclass(frozen=True)
class Case:
    """A network and how closely it is looked at."""

    network: str
    options: TruncationOptions = field(default_factory=TruncationOptions)

    @property
    def folder(self) -> Path:
        """Where its rows are kept unless told otherwise."""
        return WORK / self.network


CASES = {
    case.network: case
    for case in (
        Case("resnet20", TruncationOptions(retrain=RETRAINED, retrain_epochs=2, retrain_steps=150)),
        Case(
            "resnet56",
            TruncationOptions(
                chains=("o|ihw", "i|ohw", "oi|hw", "oh|iw", "o|ihw+i|ohw"),
                shares=(0.25, 0.5),
                layers=("layer*.[048].conv*",),  # the first, the middle and the last block of each stage
                images=250,
                calibration_images=125,
                test_images=500,
            ),
        ),
        Case(
            "four-layer-cnn",
            TruncationOptions(test_images=1000, retrain=RETRAINED, retrain_epochs=2, retrain_steps=150),
        ),
    )
}


def study(case: Case, given: argparse.Namespace) -> None:
    """Measure what is missing; the document is left in the folder, and beside it what else is known."""
    data = load_data(given.data, mean=MEAN, std=STD)
    folder = given.folder or case.folder
    model, known = network_of(case, data, given.weights)
    known |= beside(folder)
    options = replace(case.options, work=folder, resume=True)
    if given.cuts is not None:
        options = replace(options, chains=tuple(given.cuts.split(",")))
    if given.no_retraining:
        options = replace(options, retrain_epochs=0)
    began = time.process_time()
    found = truncation_study(model, data, options, on_progress=lambda *at: print(*at, flush=True))
    write_truncation(found, folder, {"model": case.network, "command": command(), **environment()})
    if "zeroed" not in known:
        known["zeroed"] = zeroed(model, data, case.options, list(dict.fromkeys(row.layer for row in found.spectra)))
    spent = {"command": command(), "seconds": round(time.process_time() - began, 1)}
    known["runs"] = [*known.get("runs", []), spent]  # of a study that was interrupted, or trained again later, all
    write_together({folder / "beside.json": json.dumps(known).encode()})


def zeroed(model: nn.Module, data: ImageData, options: TruncationOptions, layers: Sequence[str]) -> dict[str, Any]:
    """What is left of the network when a layer has lost all of its norm, by layer."""
    scorer, found = options.scorer(model, data), {}
    for layer in layers:
        with replace_kernels(model, {layer: torch.zeros_like(model.get_parameter(f"{layer}.weight"))}):
            marks = scorer.scores(model)
        found[layer] = {"accuracy": marks.accuracy, "accuracy_recalibrated": marks.accuracy_recalibrated}
    return found


def network_of(case: Case, data: ImageData, weights: Path | None) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its weights, and how it was trained if it was trained here."""
    torch.manual_seed(0)
    model = ZOO[case.network].build(data.classes)
    if weights is not None:
        load_weights(model, weights)
        return model.eval(), {}
    if case.network != "four-layer-cnn":
        raise SystemExit(f"{case.network} is not trained here: give --weights")
    kept, told = WORK / f"{case.network}.safetensors", WORK / f"{case.network}.json"
    if not kept.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        training = trained(model, data, kept.with_suffix(".pt"))
        safetensors.torch.save_file(model.state_dict(), kept)
        told.write_text(json.dumps(training))
    load_weights(model, kept)
    return model.eval(), {"training": json.loads(told.read_text())}


def trained(model: nn.Module, data: ImageData, checkpoint: Path) -> dict[str, Any]:
    """Train ``model`` in place; test images are read once, at the end."""
    began, execution = time.process_time(), Execution.for_training()
    report = train_on_images(
        model,
        data,
        TRAINING,
        execution=execution,
        on_progress=lambda epoch: print(epoch, flush=True),
        checkpoint=checkpoint,
    )
    spent = time.process_time() - began
    test = score_images(model, data.test, data.normalise, execution=Execution.for_evaluation())
    return {
        "options": {name: getattr(TRAINING, name) for name in TOLD},
        "precision": execution.precision,
        "held_out": report.best.value,
        "test_accuracy": test.value,
        "loss_by_epoch": [round(epoch.loss, 4) for epoch in report.history],
        "held_out_by_epoch": [epoch.score for epoch in report.history],
        "seconds": round(spent, 1),
    }


def beside(folder: Path) -> dict[str, Any]:
    """What is known of a study and not in its document: runs, the training of the network, layers of no norm."""
    path = folder / "beside.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return known


def results_of(folder: Path) -> dict[str, Any] | None:
    """The summary of the study in ``folder``; None where there is none."""
    path = folder / "truncation.json"
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text())
    return {"runs": [{"command": document["provenance"].get("command")}], **beside(folder), **summary(document)}


def main() -> None:
    """Run the study of one network, then write the results and the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", choices=tuple(CASES), help="the one to study; none if absent")
    parser.add_argument("--data", help="as for polyadic analyze truncation")
    parser.add_argument("--weights", type=Path, help="of the network")
    parser.add_argument("--folder", type=Path, help="of its study")
    parser.add_argument("--cuts", help="some of the network's, separated by commas, for a shorter run")
    parser.add_argument("--no-retraining", action="store_true", help="leave it to a later run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folders = {name: case.folder for name, case in CASES.items()}
    if given.network is not None:
        folders[given.network] = given.folder or folders[given.network]
        if given.data is not None:
            study(CASES[given.network], given)
    path = RESULTS / f"{NAME}.json"
    networks: dict[str, Any] = json.loads(path.read_text())["networks"] if path.exists() else {}
    networks |= {name: found for name, folder in folders.items() if (found := results_of(folder)) is not None}
    print(record(NAME, {"networks": {name: networks[name] for name in CASES if name in networks}}))
    write_figures(FIGURES, networks)


if __name__ == "__main__":
    main()
