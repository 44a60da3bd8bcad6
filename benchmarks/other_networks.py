"""Trained networks of four tasks compressed by samples without labels: pictures sharpened, objects, streets, classes.

    python benchmarks/other_networks.py search DATA ROW... [--work runs/other] [--mobilenet mobilenet_v2-b0353104.pth]
    python benchmarks/other_networks.py teach DATA ROW... --minutes 15
    python benchmarks/other_networks.py time DATA

DATA is the folder of packed weights and photographs. ``search`` finds a plan by outputs alone and scores the network
that it makes, untouched; ``teach`` has the dense network teach it, for at most so many minutes; ``time`` measures all
networks of a kind in turns, in ONNX Runtime on 2 threads. Nothing but the last line of a step reads what is scored:
samples for the search and the teaching are others (photographs of ImageNet's training set, COCO's train2017, CamVid's
validation split). A search that is done is not done again; the rows are those of ``ROWS``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record, rows_in
from torch import Tensor, nn
from trained import espnet, mobilenet_v2, vdsr, yolov5n

import polyadic
from polyadic import CompressOptions
from polyadic.benchmarking import BenchOptions, benchmark
from polyadic.pipeline import Progress
from polyadic.search import search_named
from polyadic.surgery import network_cost
from polyadic.training import DistillOptions, SampleTask, paired_interval

NAME = "other_networks"


@dataclass(frozen=True)
class Row:
    """What is asked of a network.

    Attributes:
        network: which.
        budget: of the dense network's cost.
        formats: to choose from.
        limits: what may be lost, untouched and taught, by the name of a score; None where nothing is said.
    """

    network: str
    budget: str
    formats: tuple[str, ...]
    limits: dict[str, tuple[float | None, float | None]]


KERNELS, POINTS = ("tucker2", "tkd-cpd-epc", "svd"), ("svd", "tucker2")
ROWS = {
    "vdsr-2x": Row("vdsr", "macs=50%", KERNELS[:1], {f"PSNR x{scale}": (None, 0.10) for scale in vdsr.SCALES}),
    "vdsr-3x": Row("vdsr", "macs=33.33%", KERNELS[:1], {f"PSNR x{scale}": (None, 0.25) for scale in vdsr.SCALES}),
    "yolov5n-1.5x": Row("yolov5n", "macs=66.66%", POINTS, {"AP": (None, 0.010)}),
    "yolov5n-2x": Row("yolov5n", "macs=50%", POINTS, {"AP": (None, 0.025)}),
    "espnet-1.5x": Row("espnet", "macs=66.66%", POINTS, {"mean IoU": (None, 0.005)}),
    "mobilenet_v2-1.3x": Row("mobilenet_v2", "macs=76.92%", ("svd",), {"top-1": (0.02, 0.01)}),
}
SAMPLES = {"vdsr": 180, "yolov5n": 200, "espnet": 82, "mobilenet_v2": 400}
"""For the search."""
LESSONS = {
    "vdsr": (900, 2, 1e-4),
    "yolov5n": (1000, 4, 1e-4),
    "espnet": (328, 2, 1e-4),
    "mobilenet_v2": (1000, 8, 3e-5),
}
"""Samples to learn from, how many make a batch, and the learning rate. Small batches: the time is what is limited."""


class Subject:
    """A network with its samples and its scores."""

    def __init__(self, name: str, data: Path, mobilenet: Path | None) -> None:
        self.name, self.data = name, data
        self.mobilenet = mobilenet
        self.forward: Callable[[nn.Module, Any], Any] | None = yolov5n.parts if name == "yolov5n" else None
        self.lesson: Callable[[nn.Module, Any], Any] | None = yolov5n.lesson if name == "yolov5n" else None
        self._judge: Any = None

    def dense(self) -> nn.Module:
        """The network as it was trained."""
        if self.name == "mobilenet_v2":
            if self.mobilenet is None:
                raise SystemExit("the weights of MobileNetV2 come as --mobilenet FILE")
            return mobilenet_v2.network(self.mobilenet)
        module: Any = {"vdsr": vdsr, "yolov5n": yolov5n, "espnet": espnet}[self.name]
        model: nn.Module = module.network(self.data)
        return model

    def samples(self, count: int) -> Tensor:
        """Without labels."""
        if self.name == "espnet":
            return espnet.samples(self.data, crops=count // 41)
        module: Any = {"vdsr": vdsr, "yolov5n": yolov5n, "mobilenet_v2": mobilenet_v2}[self.name]
        given: Tensor = module.samples(self.data, count)
        return given

    def example(self) -> Tensor:
        """What is timed."""
        module: Any = {"vdsr": vdsr, "yolov5n": yolov5n, "espnet": espnet, "mobilenet_v2": mobilenet_v2}[self.name]
        given: Tensor = module.example_input()
        return given

    def scores(self, model: nn.Module) -> dict[str, Any]:
        """By name: a value for each image where there is one, else what an interval can be drawn from."""
        if self._judge is None:
            makers: dict[str, Any] = {"vdsr": vdsr.Set5, "yolov5n": yolov5n.Coco, "espnet": espnet.CamVid}
            self._judge = makers.get(self.name, mobilenet_v2.HeldOut)(self.data)
        if self.name == "espnet":
            return {"mean IoU": self._judge.confusion(model)}
        found: dict[str, Any] = self._judge.score(model)
        return found

    def lost(self, name: str, dense: Any, other: Any) -> dict[str, Any]:
        """The score, what is lost of it, and the 95 % interval of that where there is one."""
        if self.name == "espnet":
            value, before = espnet.mean_iou(other), espnet.mean_iou(dense)
            interval: tuple[float, float] | None = espnet.iou_interval(dense, other)
        elif isinstance(other, Tensor):
            value, before, interval = float(other.mean()), float(dense.mean()), paired_interval(dense, other)
        else:
            value, before, interval = float(other), float(dense), None
        return {"dense": before, "score": value, "lost": before - value, "interval": interval}


def main() -> None:
    """One of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("search", "teach", "time"))
    parser.add_argument("data", type=Path)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--work", type=Path, default=Path("runs/other_networks"))
    parser.add_argument("--mobilenet", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, help="another learning rate than that of LESSONS")
    parser.add_argument("--batch", type=int, help="another size of batches than that of LESSONS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--search", default="frontier")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.rows or ROWS:
        subject = Subject(ROWS[name].network, given.data, given.mobilenet)
        if given.step == "search":
            search(name, subject, given)
        elif given.step == "teach":
            teach(name, subject, given)
    if given.step == "time":
        measure(given)


def search(name: str, subject: Subject, given: argparse.Namespace) -> None:
    """Find the plan of a row, apply it, score it."""
    row, folder, began = ROWS[name], given.work / name, time.monotonic()
    if (folder / "untouched.pt").exists():
        return
    dense = subject.dense()
    few = SAMPLES[row.network]
    task = SampleTask(dense, subject.samples(few), forward=subject.forward, tuning=DistillOptions(epochs=0))
    options = CompressOptions(work=folder / "search", resume=True, search=search_named(given.search))
    found = polyadic.find_plan(
        dense, task, budget=[row.budget], formats=row.formats, options=options, on_progress=_told(began)
    )
    applied = polyadic.apply_plan(dense, found.plan, inputs=task.calibration_batches()).model
    torch.save(applied, folder / "untouched.pt")
    (folder / "plan.json").write_text(json.dumps(found.plan.to_json()))
    example = subject.example()
    before, after = network_cost(dense, example), network_cost(applied, example)
    figures = {
        "network": row.network,
        "asked": row.budget,
        "search": given.search,
        "samples_of_search": few,
        "mac_reduction": before.macs / after.macs,
        "param_reduction": before.params / after.params,
        "macs": [before.macs, after.macs],
        "example": list(example.shape),
        "search_minutes": (time.monotonic() - began) / 60,
        "untouched": _judged(name, subject, dense, applied, 0),
    }
    _keep(name, figures)


def teach(name: str, subject: Subject, given: argparse.Namespace) -> None:
    """Have the dense network teach a row's network, and score that."""
    row, folder, began = ROWS[name], given.work / name, time.monotonic()
    dense = subject.dense()
    model: nn.Module = torch.load(folder / "untouched.pt", weights_only=False)  # written by the step before
    many, batch, rate = LESSONS[row.network]
    rate = given.rate or rate
    samples = subject.samples(many)
    tuning = DistillOptions(epochs=200, minutes=given.minutes, learning_rate=rate)
    task = SampleTask(dense, list(samples.split(given.batch or batch)), forward=subject.lesson, tuning=tuning)
    report = polyadic.finetune(model, dense, task, on_progress=_told(began, every=0))
    assert report is not None
    torch.save(model, folder / "taught.pt")
    figures = {
        "samples_of_teaching": many,
        "teaching_minutes": report.seconds / 60,
        "teaching_threads": given.threads,
        "epochs": len(report.history),
        "learning_rate": rate,
        "batch": given.batch or batch,
        "outputs_lost": [report.start.loss, report.best.loss],
        "taught": _judged(name, subject, dense, model, 1),
    }
    _keep(name, figures)


def measure(given: argparse.Namespace) -> None:
    """Time all networks of a kind in turns."""
    for kind in dict.fromkeys(row.network for row in ROWS.values()):
        subject = Subject(kind, given.data, given.mobilenet)
        names = [name for name, row in ROWS.items() if row.network == kind]
        files = {name: given.work / name / "untouched.pt" for name in names}
        networks = {"dense": subject.dense()}
        networks |= {name: torch.load(path, weights_only=False) for name, path in files.items() if path.exists()}
        options = BenchOptions(("onnxruntime",), (1,), given.threads, rounds=31, seconds=5.0, memory=False)
        for timed in benchmark(networks, subject.example(), options).rows:
            print(timed.network, timed.median_ms, timed.speed_up, timed.reason, flush=True)
            if timed.network == "dense":
                dense_ms = timed.median_ms
                continue
            quartiles = [timed.speed_up_low, timed.speed_up_high]
            times = {"dense_ms": dense_ms, "ms": timed.median_ms, "faster": timed.speed_up, "quartiles": quartiles}
            where = {"engine": "onnxruntime", "threads": given.threads, "batch": 1, "rounds": 31}
            _keep(timed.network, {"time": {**times, **where, "reason": timed.reason}})


def _judged(name: str, subject: Subject, dense: nn.Module, model: nn.Module, step: int) -> dict[str, Any]:
    """All scores of a network, and whether they keep what the row asks."""
    before, after = subject.scores(dense), subject.scores(model.eval())
    judged = {score: subject.lost(score, before[score], after[score]) for score in before}
    for score, limits in ROWS[name].limits.items():
        limit = limits[step]
        judged[score]["limit"] = limit
        judged[score]["kept"] = None if limit is None else judged[score]["lost"] <= limit
    for score, figures in judged.items():
        print(f"{name} {('untouched', 'taught')[step]} {score}: {figures}", flush=True)
    return judged


def _keep(name: str, figures: dict[str, Any]) -> None:
    """Write a row's figures beside those that are there."""
    rows = rows_in(RESULTS / f"{NAME}.json")
    rows[name] = {**rows.get(name, {}), **figures}
    steps = f"python benchmarks/{NAME}.py search | teach | time DATA ROW..."  # paths are the machine's
    record(NAME, {"command": steps, "convention": "MACs of one sample; drops in the score's own unit", "rows": rows})


def _told(began: float, every: float = 20.0) -> Callable[[Progress], None]:
    last = [-math.inf]

    def told(progress: Progress) -> None:
        now = time.monotonic() - began
        if now - last[0] > every:
            last[0] = now
            print(f"{now:.0f} s {progress.stage} {progress.done}/{progress.total} {progress.message[:90]}", flush=True)

    return told


if __name__ == "__main__":
    main()
