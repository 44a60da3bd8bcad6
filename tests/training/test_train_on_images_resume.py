"""A run that is killed and called again ends with the bits of a run that was not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corners import SmallNet

from polyadic.data.images import ImageData
from polyadic.training import Augmentation, EpochRecord, FinetuneOptions, FinetuneReport, train_on_images

OPTIONS = FinetuneOptions(
    epochs=4, steps_per_epoch=5, batch_size=32, learning_rate=0.05, augmentation=Augmentation(flip=False, padding=1)
)


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_after(epochs: int, model: SmallNet, data: ImageData, options: FinetuneOptions, path: Path) -> None:
    """Run until ``epochs`` epochs have been recorded, then die."""
    seen: list[EpochRecord] = []

    def kill(record: EpochRecord) -> None:
        seen.append(record)
        if len(seen) == epochs:
            raise KilledError

    with pytest.raises(KilledError):
        train_on_images(model, data, options, checkpoint=path, on_progress=kill)


def outcome(report: FinetuneReport) -> tuple[object, ...]:
    """Return what must be equal: all but the wall time."""
    history = [replace(record, seconds=0.0) for record in report.history]
    return report.best.value, report.best.loss, report.best_epoch, report.stop, report.start.loss, history


@pytest.mark.parametrize("learning_rate", [0.05, 5e4])
@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_resumed_equals_uncut(epochs: int, learning_rate: float, data: ImageData, tmp_path: Path) -> None:
    """Weights and history agree bit for bit, after a divergence and after the last epoch too; the file goes."""
    options = replace(OPTIONS, learning_rate=learning_rate, retries=8, schedule="cosine")
    uncut, resumed = SmallNet(dropout=0.3), SmallNet(dropout=0.3)
    whole = train_on_images(uncut, data, options)
    path = tmp_path / "run" / "finetune.pt"
    killed_after(epochs, SmallNet(dropout=0.3), data, options, path)
    calls: list[EpochRecord] = []
    report = train_on_images(resumed, data, options, checkpoint=path, on_progress=calls.append)
    assert outcome(report) == outcome(whole)
    assert len(calls) == len(whole.history) - epochs
    for name, tensor in uncut.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    assert list(path.parent.iterdir()) == []


def test_a_checkpoint_of_another_run_is_ignored(
    data: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other options, other weights or other parameters begin anew, with a warning."""
    path = tmp_path / "finetune.pt"
    killed_after(1, SmallNet(), data, OPTIONS, path)
    kept = path.read_bytes()
    for model, options in ((SmallNet(), replace(OPTIONS, seed=1)), (SmallNet(seed=1), OPTIONS)):
        path.write_bytes(kept)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            report = train_on_images(model, data, options, checkpoint=path)
        assert "belongs to another run" in caplog.text
        assert len(report.history) == OPTIONS.epochs
        assert not path.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text"])
def test_a_broken_checkpoint_is_ignored(
    damage: str, data: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in the file, the run begins anew, with a warning."""
    path = tmp_path / "finetune.pt"
    options = replace(OPTIONS, epochs=2, steps_per_epoch=1)
    killed_after(1, SmallNet(), data, options, path)
    whole = path.read_bytes()
    noise = bytes(torch.randint(256, (len(whole),), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "noise": noise, "text": b"hello\n"}[damage])
    with caplog.at_level(logging.WARNING):
        report = train_on_images(SmallNet(), data, options, checkpoint=path)
    assert "cannot be read" in caplog.text
    assert len(report.history) == 2
