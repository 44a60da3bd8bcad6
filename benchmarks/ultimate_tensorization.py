"""The networks of *Ultimate tensorization* (Garipov et al. 2016) on CIFAR-10, trained anew or decomposed and tuned.

    python benchmarks/ultimate_tensorization.py --data npz:build/data/cifar10 --schedule paper --device cuda
    python benchmarks/ultimate_tensorization.py --data npz:build/data/cifar10 --epochs 2 --threads 1

A row is a network and where it starts: from ``scratch``; ``decomposed`` from the dense network of the same schedule,
its batch norms calibrated and fine-tuned; or ``distilled``, likewise and taught by the dense network. A row that is in
the results already is not run again. An interrupted row goes on after its last epoch, from files under ``build/``.

``--schedule paper``: 100 epochs in batches of 100, rate 0.1 (0.03 where fully connected layers are trains), a tenth of
it after every 30 epochs, no weight decay, crops, mirror images and random contrast; and 20 epochs of fine-tuning.
``--schedule short``: one cycle over a few epochs, crops and mirror images alone.

The state of an epoch is chosen on 5000 training images that are held out; the test images are read once, at the end of
a row. The figures of the paper stand beside those measured.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, command, record, rows_in
from torch import Generator, Tensor, nn

from polyadic.data import ImageData, ImageSet, load_data
from polyadic.formats import TTMatrixFormat
from polyadic.layers import TTConv2d, TTLayer, TTLinear
from polyadic.models import ZOO
from polyadic.schema import Rank, TTSpec
from polyadic.surgery import network_cost, recalibrate
from polyadic.training import Execution, FinetuneOptions, score_images, train_on_images

NAME = "ultimate_tensorization_cifar10"
WORK = Path("build/ultimate_tensorization")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
COMMON: dict[str, Any] = {"batch_size": 100, "schedule": "cosine", "weight_decay": 0.0, "score_precision": "bfloat16"}
CALIBRATION = 2000  # images for the batch norms of a decomposed network
COMPRESSED = {
    "ut-conv-fc": ("ut-tt-conv-tt-fc-42x", "ut-tt-conv-tt-fc-83x"),
    "ut-conv": ("ut-tt-conv-3x", "ut-naive-2x", "ut-naive-3x"),
}
# Table 1 of the paper: top-1 on the test images, per cent.
PAPER = {
    "ut-conv": 90.7,
    "ut-conv-fc": 90.5,
    "ut-tt-conv-3x": 89.3,
    "ut-naive-2x": 88.3,
    "ut-naive-3x": 87.6,
    "ut-tt-conv-tt-fc-42x": 89.7,
    "ut-tt-conv-tt-fc-83x": 89.4,
}


@dataclass(frozen=True)
class Row:
    """One network to make: its name in the zoo, where it starts, and what it compresses (itself, where nothing)."""

    network: str
    start: str
    dense: str

    @property
    def name(self) -> str:
        """Its key in the results, without the schedule."""
        return f"{self.network} {self.start}"

    @property
    def origin(self) -> Row:
        """The trained dense network that it starts from, or is compared with."""
        return Row(self.dense, "scratch", self.dense)


def rows() -> list[Row]:
    """Dense networks first, since others start from them."""
    listed = [Row(dense, "scratch", dense) for dense in COMPRESSED]
    for start in ("scratch", "decomposed", "distilled"):
        listed += [Row(name, start, dense) for dense, names in COMPRESSED.items() for name in names]
    return listed


class Stepwise(FinetuneOptions):
    """The paper's rate: a tenth after every 30 epochs, and no end before the last one."""

    def rate_shape(self, step: int, steps: int) -> float:
        """0.1 to the number of times that 30 epochs have passed."""
        return 0.1 ** (step * self.epochs // steps // 30)


class Contrasted(ImageSet):
    """Images of another set, the contrast of each multiplied by 0.75 to 1.25 about the mean of each channel.

    The factors are drawn from the indices of the batch: a run that goes on after an interruption sees what it would
    have seen.
    """

    def __init__(self, source: ImageSet) -> None:
        self.source = source

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""
        return self.source.labels

    def images(self, index: Tensor) -> Tensor:
        """uint8 (len(index), C, H, W)."""
        x = self.source.images(index).float()
        weights = torch.arange(1, len(index) + 1)
        generator = Generator().manual_seed(int((index * weights).sum()))
        factors = 0.75 + 0.5 * torch.rand(len(index), 1, 1, 1, generator=generator)
        means = x.mean(dim=(2, 3), keepdim=True)
        return ((x - means) * factors + means).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Schedule:
    """How long networks are trained, and how."""

    name: str
    epochs: int
    tuning: int
    tuning_steps: int | None

    def options(self, row: Row) -> FinetuneOptions:
        """What the trainer is asked to do with a row."""
        if row.start != "scratch":
            taught = 0.9 if row.start == "distilled" else 0.0
            rate, steps = 0.01, self.tuning_steps
            return FinetuneOptions(self.tuning, steps, learning_rate=rate, distillation=taught, **COMMON)
        if self.name == "paper":
            rate = 0.03 if "tt-fc" in row.network else 0.1
            return Stepwise(epochs=self.epochs, learning_rate=rate, clip_norm=None, **COMMON)
        # Of 0.1 and 0.03 the one that brought the training loss of the first 50 steps of ut-conv-fc and of
        # ut-tt-conv-tt-fc-83x down further; the other networks were not tried.
        return FinetuneOptions(epochs=self.epochs, learning_rate=0.03, warmup=0.2, **COMMON)


@dataclass(frozen=True)
class Bench:
    """The images, how long, and where."""

    data: ImageData
    schedule: Schedule
    device: str

    def run(self, row: Row) -> dict[str, Any]:
        """One row; the network is left under ``build/``."""
        torch.manual_seed(0)
        model, taught, notes = self.start_of(row)
        asked = self.schedule.options(row)
        report = train_on_images(
            model,
            self.data,
            asked,
            teacher=taught,
            execution=Execution.for_training(self.device),
            on_progress=lambda record: print("  ", row.name, record, flush=True),
            checkpoint=self.path(row, "epochs"),
        )
        torch.save(model.state_dict(), self.path(row, "weights"))
        example = self.data.example(1)
        cost, dense = network_cost(model, example), network_cost(ZOO[row.dense].build(self.data.classes), example)
        test = score_images(model, self.data.test, self.data.normalise, execution=Execution.for_evaluation(self.device))
        return {
            "network": row.network,
            "start": row.start,
            "schedule": self.schedule.name,
            "epochs": len(report.history),
            "steps": len(report.history) * (asked.steps_per_epoch or len(self.data.train) // asked.batch_size),
            "params": cost.params,
            "params_ratio": dense.params / cost.params,
            "ranks": {name: list(layer.spec.ranks) for name, layer in trains(model).items()},
            **notes,
            "held_out_before": report.start.value,
            "held_out": report.best.value,
            "test_accuracy": test.value,
            "paper_top1": PAPER[row.network] / 100 if row.start == "scratch" else None,
            "training_loss": [round(epoch.loss, 4) for epoch in report.history],
            "seconds_of_training": report.seconds,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "command": command(),
        }

    def start_of(self, row: Row) -> tuple[nn.Module, nn.Module | None, dict[str, Any]]:
        """The network before training, its teacher, and what there is to say of it."""
        if row.start == "scratch":
            return fixed_ways(ZOO[row.network].build(self.data.classes)), None, {}
        dense = ZOO[row.dense].build(self.data.classes)
        dense.load_state_dict(torch.load(self.path(row.origin, "weights")))
        began = time.perf_counter()
        model, errors = decomposed(dense.eval(), ZOO[row.network].build(self.data.classes))
        notes: dict[str, Any] = {"errors": errors, "seconds_to_decompose": time.perf_counter() - began}
        execution = Execution.for_training(self.device)
        score = score_images(model, self.data.held_out, self.data.normalise, execution=execution)
        notes["held_out_uncalibrated"] = score.value
        images = self.data.normalise(self.data.train.images(torch.arange(CALIBRATION)))
        recalibrate(model, torch.split(images, 250))
        return model, dense if row.start == "distilled" else None, notes

    def path(self, row: Row, kind: str) -> Path:
        """Where a row keeps its state."""
        folder = WORK / f"{self.schedule.name}-{self.schedule.epochs}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{row.name.replace(' ', '-')}.{kind}.pt"


def trains(model: nn.Module) -> dict[str, TTLayer]:
    """The tensor-train layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, TTLayer)}


def fixed_ways(model: nn.Module) -> nn.Module:
    """All trains dense, as in the paper: about as fast as the faster way in training, and repeatable."""
    for layer in trains(model).values():
        layer.run_in("dense")
    return model


def decomposed(dense: nn.Module, pattern: nn.Module) -> tuple[nn.Module, dict[str, float]]:
    """``dense`` with the layers that are trains in ``pattern`` decomposed with its modes; also their errors."""
    kept = {name: value for name, value in dense.state_dict().items() if name in pattern.state_dict()}
    pattern.load_state_dict(kept, strict=False)
    errors = {}
    for name, train in trains(pattern).items():
        layer, spec = dense.get_submodule(name), train.spec
        kind = TTConv2d if spec.axes else TTLinear
        made = kind.from_dense(layer, usable(spec), row_modes=spec.row_modes, column_modes=spec.column_modes)
        pattern.set_submodule(name, made)
        K = layer.get_parameter("weight")
        errors[name] = float((made.kernel() - K).detach().norm() / K.detach().norm())
    return fixed_ways(pattern), errors


def usable(spec: TTSpec) -> Rank:
    """Ranks of no more numbers, none beyond what its bond can use: (9, 36, 16) instead of (23, 23, 23)."""
    largest = TTMatrixFormat(spec.row_modes, spec.column_modes).largest_rank(spec.dense)
    ranks = tuple(map(min, spec.ranks, largest))
    while True:
        wider = tuple(min(r + 1, most) for r, most in zip(ranks, largest, strict=True))
        if wider == ranks or replace(spec, ranks=wider).params > spec.params:
            return ranks
        ranks = wider


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--schedule", choices=("paper", "short"), default="short")
    parser.add_argument("--epochs", type=int, help="from scratch; 100 for paper, else 2")
    parser.add_argument("--tuning", type=int, help="epochs of fine-tuning; 20 for paper, else 1")
    parser.add_argument("--tuning-steps", type=int, help="steps of such an epoch; all training images if absent")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", default="", help="regular expression that a row's name must contain")
    parser.add_argument("--fresh", action="store_true", help="run rows that are in the results already")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there."""
    given = _arguments()
    chosen = [row for row in rows() if re.search(given.rows, row.name)]
    if given.list:
        print("\n".join(row.name for row in chosen))
        return
    torch.set_num_threads(given.threads)
    paper = given.schedule == "paper"
    epochs, tuning = given.epochs or (100 if paper else 2), given.tuning or (20 if paper else 1)
    schedule = Schedule(given.schedule, epochs, tuning, given.tuning_steps)
    data = load_data(given.data, mean=MEAN, std=STD, held_out=5000)
    if paper:
        data = ImageData(**{**vars(data), "train": Contrasted(data.train)})
    bench, kept = Bench(data, schedule, given.device), RESULTS / f"{NAME}.json"
    for row in chosen:
        key = f"{row.name} ({schedule.name} {schedule.epochs})"
        if key in rows_in(kept) and not given.fresh:
            continue
        if row.start != "scratch" and not bench.path(row.origin, "weights").exists():
            print(f"{key} starts from '{row.origin.name}', which has not been trained yet: run that row first")
            continue
        outcome = bench.run(row)
        print(key, outcome, flush=True)
        record(NAME, {"rows": {**rows_in(kept), key: outcome}})  # another process may have written rows meanwhile


if __name__ == "__main__":
    main()
