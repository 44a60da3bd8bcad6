"""Runs that several processes share; each writes down what it ends with. For a launcher: ``shared_run.py FOLDER``."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyadic import compress
from polyadic.cli import app
from polyadic.data import ImageData, load_data
from polyadic.errors import PolyadicError
from polyadic.pipeline import CompressionResult
from polyadic.schema import Choice, Plan
from polyadic.training import (
    ALONE,
    Augmentation,
    EpochRecord,
    Execution,
    FinetuneOptions,
    FinetuneReport,
    ImageTask,
    Processes,
    processes,
    train_on_images,
)

OPTIONS = FinetuneOptions(
    epochs=3,
    steps_per_epoch=6,
    batch_size=33,  # odd: the shares of two processes differ
    learning_rate=0.1,
    distillation=0.5,
    augmentation=Augmentation(flip=True, padding=1),
)
PLAN = Plan((Choice("conv", "tucker2", (1, 4)), Choice("linear", "svd", 4)))
FLOAT32 = Execution(device="cpu")


class TinyNet(nn.Module):
    """A convolution, batch norm, a parameter that nothing depends on, and a linear layer; (N, 1, 8, 8) to (N, 10)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.linear = nn.Linear(6 * 16, 10)
            self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        logits: Tensor = self.linear(torch.relu(self.norm(self.conv(x))).flatten(1))
        return logits


class Breaking(TinyNet):
    """Cannot be trained by the second process."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or raise."""
        if self.training and os.environ.get("RANK") == "1":
            raise PolyadicError("broken on purpose")
        return super().forward(x)


class Slow(TinyNet):
    """Says when its training begins, and takes a minute over it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        if self.training:
            Path(os.environ["MARK"]).touch()
            time.sleep(60)
        return super().forward(x)


def trained(
    data: ImageData, options: FinetuneOptions, shared: Processes, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Fine-tune a network whose weights the others do not know, and say how it ended."""
    model = TinyNet(seed=shared.rank)
    if shared.rank:
        model.norm.running_mean += 1  # the main one's statistics count, too
    seen: list[tuple[int, bool]] = []

    def note(record: EpochRecord) -> None:
        seen.append((record.epoch, checkpoint is not None and checkpoint.exists()))

    report = train_on_images(
        model,
        data,
        options,
        teacher=TinyNet(seed=7),
        execution=FLOAT32,
        on_progress=note,
        checkpoint=checkpoint,
        processes=shared,
    )
    if shared.is_main:  # on its own: it would wait for the others if anything of the sharing were left
        torch.autograd.backward(model(data.example(8)).sum())
    return {**outcome(model, report), "seen": seen}


def outcome(model: nn.Module, report: FinetuneReport) -> dict[str, Any]:
    """What a run ends with, as ``torch.load(weights_only=True)`` reads it."""
    return {
        "weights": dict(model.state_dict()),
        "losses": [record.loss for record in report.history],
        "score_losses": [record.score_loss for record in report.history],
        "diverged": [record.diverged for record in report.history],
        "start": report.start.loss,
        "best": report.best.loss,
        "best_epoch": report.best_epoch,
        "correct": report.best.correct,
    }


def compressed(data: ImageData) -> CompressionResult:
    """A plan carried out and fine-tuned, by whatever processes there are."""
    options = replace(OPTIONS, epochs=2)
    task = ImageTask(data, layer=None, network=options, training=FLOAT32, testing=FLOAT32)
    return compress(TinyNet(seed=processes().rank), task, plan=PLAN)


def cases(folder: Path) -> dict[str, tuple[FinetuneOptions, Path | None]]:
    """By name: options of a fine-tuning, and its checkpoint."""
    return {
        "plain": (OPTIONS, None),
        "mixed": (replace(OPTIONS, mixing=True), None),
        "diverges": (replace(OPTIONS, learning_rate=1e5), None),
        "resumes": (OPTIONS, folder / "interrupted.pt"),
    }


def command(folder: Path, network: str) -> list[str]:
    """The words of a small compression by the command line."""
    return [
        *("compress", f"{__file__}:{network}", "--data", "digits", "--out", str(folder / network)),
        *("--plan", str(folder / "plan.json"), "--finetune-epochs", "1", "--json"),
    ]


def main(folder: Path) -> None:
    """Everything that the tests ask about, the failure last."""
    torch.set_num_threads(1)
    data, team = load_data("digits", seed=0), processes()
    if team is ALONE:
        raise SystemExit("started alone")
    for name, (options, checkpoint) in cases(folder).items():
        torch.save(trained(data, options, team, checkpoint), folder / f"{name}-{team.rank}.pt")
    result = compressed(data)
    parts = {"weights": dict(result.model.state_dict()), "dense": dict(result.dense.state_dict())}
    torch.save({**parts, "score": result.summary.compressed_score}, folder / f"compressed-{team.rank}.pt")
    app(command(folder, "TinyNet"), standalone_mode=False)
    sys.stderr.write(f"process {team.rank} goes on\n")
    app(command(folder, "Breaking"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
