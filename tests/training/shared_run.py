"""Fine-tuning that processes share; each writes down what it ends with. For a launcher: ``shared_run.py FOLDER``."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from corners import corner_data
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.training import (
    Augmentation,
    EpochRecord,
    Execution,
    FinetuneOptions,
    connect_processes,
    one_voice,
    train_on_images,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

OPTIONS = FinetuneOptions(
    epochs=3,
    steps_per_epoch=6,
    batch_size=33,  # odd: the shares of two processes differ
    learning_rate=0.1,
    distillation=0.5,
    augmentation=Augmentation(flip=True, padding=1),
)


class CornerNet(nn.Module):
    """A convolution, batch norm, a parameter that nothing depends on, and a linear layer; (N, 3, 8, 8) to (N, 3)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.linear = nn.Linear(6 * 16, 3)
            self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 3)."""
        logits: Tensor = self.linear(torch.relu(self.norm(self.conv(x))).flatten(1))
        return logits


def cases() -> dict[str, FinetuneOptions]:
    """By name: without the statistics of batch norm several processes do what one does, to rounding."""
    frozen = replace(OPTIONS, freeze_statistics=True)
    return {
        "own statistics": OPTIONS,
        "frozen": frozen,
        "mixed": replace(frozen, mixing=True),
        "diverges": replace(frozen, learning_rate=1e5),
    }


def trained(
    options: FinetuneOptions, accelerator: Accelerator | None = None, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Fine-tune a network whose weights the other processes do not know, and say how it ended."""
    rank = 0 if accelerator is None else accelerator.process_index
    model = CornerNet(seed=rank)
    model.norm.running_mean += rank  # the main one's statistics count, too
    seen: list[int] = []

    def note(record: EpochRecord) -> None:
        seen.append(record.epoch)
        if checkpoint is not None and checkpoint.exists() and record.epoch == 1:
            shutil.copy(checkpoint, checkpoint.with_suffix(".first"))

    report = train_on_images(
        model,
        corner_data(),
        options,
        teacher=CornerNet(seed=7),
        execution=Execution(device="cpu"),
        on_progress=note,
        checkpoint=checkpoint,
        accelerator=accelerator,
    )
    if rank == 0:  # on its own: it would wait for the others if anything of the sharing were left
        torch.autograd.backward(model(corner_data().example(8)).sum())
    return {
        "weights": dict(model.state_dict()),
        "losses": [record.loss for record in report.history],
        "score_losses": [record.score_loss for record in report.history],
        "start": report.start.loss,
        "best_epoch": report.best_epoch,
        "correct": report.best.correct,
        "seen": seen,
    }


def main(folder: Path) -> None:
    """Everything that the tests ask about, the failure last."""
    torch.set_num_threads(1)
    accelerator = connect_processes()
    rank = accelerator.process_index
    for name, options in cases().items():
        torch.save(trained(options, accelerator, folder / f"{name}.pt"), folder / f"{name}-{rank}.pt")
    sys.stderr.write(f"process {rank} goes on\n")
    try:
        with one_voice():
            if rank == 1:
                raise PolyadicError("broken on purpose")
            accelerator.wait_for_everyone()
    except PolyadicError as error:
        sys.stderr.write(f"error: {error}\n")
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
