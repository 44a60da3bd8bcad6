"""Teaching by the dense network: it is asked once, ends in time, and leaves everything else as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.training import DistillOptions, EpochRecord, SampleTask
from polyadic.training import distillation as module


class Counting(nn.Module):
    """A network that counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        outputs: Tensor = self.layers(x)
        return outputs


def blurred(dense: nn.Module) -> nn.Module:
    model = copy.deepcopy(dense)
    with torch.no_grad():
        model.get_parameter("layers.0.weight").mul_(0.7)
    return model


def samples() -> list[Tensor]:
    return list(torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(1)).split(4))


def ignored(record: EpochRecord, epochs: int) -> None:
    """Progress that nobody looks at."""


def test_the_teacher_answers_each_batch_once() -> None:
    dense = Counting()
    task = SampleTask(dense, samples(), tuning=DistillOptions(epochs=5, learning_rate=1e-2))
    model, dense.runs = blurred(dense), 0
    report = task.tune_network(model, dense, ignored, None)
    assert report is not None
    assert dense.runs == len(task.train) + len(task.held_out)
    assert report.best.loss < 0.5 * report.start.loss


def test_what_does_not_fit_into_memory_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = Counting()
    task = SampleTask(dense, samples(), tuning=DistillOptions(epochs=3, learning_rate=1e-2))
    kept = blurred(dense)
    task.tune_network(kept, dense, ignored, None)
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    model, dense.runs = blurred(dense), 0
    task.tune_network(model, dense, ignored, None)
    assert dense.runs > len(task.train) + len(task.held_out)
    for own, other in zip(model.parameters(), kept.parameters(), strict=True):
        assert torch.equal(own, other)


def test_training_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))  # each look at the clock takes a second
    dense = Counting()
    task = SampleTask(dense, samples(), tuning=DistillOptions(epochs=1000, learning_rate=1e-2, minutes=0.5))
    model = blurred(dense)
    report = task.tune_network(model, dense, ignored, None)
    assert report is not None
    assert 30 <= report.seconds <= 34
    assert 1 < len(report.history) < 10
    assert report.history[-1].learning_rate < 0.1 * report.history[0].learning_rate
    assert report.best.loss < report.start.loss


def test_a_rate_that_makes_the_network_worse_is_lowered() -> None:
    dense = Counting()
    task = SampleTask(dense, samples(), tuning=DistillOptions(epochs=12, learning_rate=2.0))
    report = task.tune_network(blurred(dense), dense, ignored, None)
    assert report is not None
    assert report.history[0].score_loss is not None
    assert report.history[0].score_loss > report.start.loss
    assert report.best.loss < report.start.loss
    assert min(record.learning_rate for record in report.history[1:4]) < 0.5


def test_kernels_come_back_in_the_layout_that_they_had(tmp_path: Path) -> None:
    dense = Counting()
    task = SampleTask(dense, samples(), tuning=DistillOptions(epochs=1))
    model = blurred(dense)
    layouts = [[p.stride() for p in network.parameters()] for network in (dense, model)]
    task.tune_network(model, dense, ignored, tmp_path / "state.pt")
    assert [[p.stride() for p in network.parameters()] for network in (dense, model)] == layouts
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_is_above_0(minutes: float) -> None:
    with pytest.raises(PolyadicError, match="minutes is finite and above 0"):
        DistillOptions(minutes=minutes)
