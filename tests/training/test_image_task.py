"""Held-out images that the network was trained on are noticed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from corners import SmallNet
from torch import Tensor, nn

import polyadic.training.image_task as image_task
from polyadic.data import ImageData, ImageSet
from polyadic.training import Execution, FinetuneOptions, ImageTask
from polyadic.training.image_task import doubt_of_accuracy, has_seen


class Memory(nn.Module):
    """Knows by heart what it was shown; of anything else it says class 0."""

    def __init__(self, data: ImageData, *shown: ImageSet) -> None:
        super().__init__()
        self.labels: dict[float, int] = {}
        for images in shown:
            for row, label in zip(data.normalise(images.images(torch.arange(len(images)))), images.labels, strict=True):
                self.labels[self._key(row)] = int(label)

    @staticmethod
    def _key(row: Tensor) -> float:
        weights = torch.linspace(1.0, 2.0, row.numel(), dtype=torch.float64)
        return round(float(row.double().flatten() @ weights), 4)

    def forward(self, x: Tensor) -> Tensor:
        known = torch.tensor([self.labels.get(self._key(row), 0) for row in x])
        return nn.functional.one_hot(known, 3).float()


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """These networks are either perfect or at a loss."""
    monkeypatch.setattr(image_task, "FEWEST_SEEN", 100)


def test_among_few_images_nothing_can_be_told(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Memory(data, data.train, data.held_out)
    assert has_seen(model, data, Execution())
    monkeypatch.setattr(image_task, "FEWEST_SEEN", len(data.held_out) + 1)
    assert not has_seen(model, data, Execution())


def test_a_network_that_knows_training_images_better_has_not_seen_the_others(data: ImageData) -> None:
    assert not has_seen(Memory(data, data.train), data, Execution())
    assert has_seen(Memory(data, data.train, data.held_out), data, Execution())
    assert has_seen(Memory(data), data, Execution()), "one that has learnt nothing is as good on both"


@pytest.mark.parametrize("seen", [True, False])
def test_only_a_network_that_was_trained_on_them_is_handicapped(
    data: ImageData, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[FinetuneOptions] = []

    def noted(model: nn.Module, data: ImageData, options: FinetuneOptions, **rest: Any) -> None:
        given.append(options)

    monkeypatch.setattr(image_task, "train_on_images", noted)
    teacher = Memory(data, data.train, *([data.held_out] if seen else []))
    task = ImageTask(data, training=Execution(), testing=Execution())
    task.tune_network(SmallNet(), teacher, lambda record, epochs: None, None)
    assert [options.handicap for options in given] == [image_task.HANDICAP if seen else 0.0]


def test_a_score_that_guessing_reaches_is_doubted() -> None:
    labels = torch.arange(10).repeat(100)
    assert "no better than chance" in str(doubt_of_accuracy(0.1002, labels, 10))
    assert doubt_of_accuracy(0.15, labels, 10) is None
    skewed = torch.tensor([0] * 900 + [1] * 100)
    assert doubt_of_accuracy(0.9, skewed, 2) is not None, "one answer for all images scores as much"
    assert doubt_of_accuracy(0.95, skewed, 2) is None
    assert doubt_of_accuracy(1.0, torch.zeros(5, dtype=torch.int64), 2) is None, "one class tells nothing"
