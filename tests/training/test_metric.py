"""A score of the user's own has a name, a unit and a direction, and an interval where samples have values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic
from polyadic.errors import DataError, PolyadicError
from polyadic.schema import ScoreWords
from polyadic.search import Uniform
from polyadic.training import Metric, SampleTask, ScoreTask
from polyadic.training.metric import paired_interval

QUICK = polyadic.CompressOptions(search=Uniform(), alarm_at=1.0)


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        clean: Tensor = x - 0.1 * self.out(self.body(x))
        return clean


def denoiser() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Denoiser().eval(), torch.rand(24, 1, 8, 8)


def decibels(target: Tensor, clean: Tensor) -> Tensor:
    return -10 * (target - clean).square().mean((1, 2, 3)).log10()


def test_a_drop_is_in_the_unit_of_the_metric() -> None:
    model, x = denoiser()
    clean = model(x).detach() + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    psnr = Metric(lambda net: decibels(clean, net(x)), name="PSNR", unit="dB")
    result = polyadic.compress(
        model, DataLoader(x, batch_size=8), metric=psnr, max_drop=0.5, budget=["macs=60%"], options=QUICK
    )
    summary = result.summary
    before, after = (decibels(clean, net(x)).detach().double() for net in (model, result.model))
    assert (summary.score_name, summary.score_unit, summary.score_is_fraction) == ("PSNR", "dB", False)
    assert summary.max_drop == 0.5
    assert summary.drop == pytest.approx(float((before - after).mean()), abs=1e-6)
    assert summary.drop_interval == pytest.approx(paired_interval(before, after), abs=1e-6)
    assert summary.words.said(40.12345678) == "40.1235 dB"
    found = polyadic.find_plan(model, x, metric=psnr, max_drop=0.5, formats=("svd", "tucker2"))
    assert (found.max_drop, found.words.allowed(0.5), found.tried.drop <= 0.5 * 6) == (0.5, "0.5 dB", True)
    with pytest.raises(PolyadicError, match=r"in the unit of the score, .* PSNR is 39.* dB; got 50 dB, all of it"):
        polyadic.find_plan(model, x, metric=psnr, max_drop=50)


def test_an_error_rate_is_a_negative_score() -> None:
    model, x = denoiser()
    target = model(x).detach()
    rmse = Metric(lambda net: (net(x) - target).square().mean().sqrt(), name="RMSE", higher_is_better=False)
    task = ScoreTask(rmse)
    assert task.score_name == "negative RMSE"
    with torch.no_grad():
        model.out.bias.add_(1.0)  # type: ignore[operator, union-attr]
    assert task.score(model) == pytest.approx(-0.1, abs=1e-6)
    assert task.words.drop(0.0, task.score(model)) == pytest.approx(0.1, abs=1e-6)


def test_a_fraction_is_written_in_percent_and_lost_in_points() -> None:
    model, x = denoiser()
    right = Metric(lambda net: (net(x) - model(x)).abs().lt(0.02).double().mean(), name="right", unit="%")
    summary = polyadic.compress(model, right, x[:1], budget=["macs=60%"], options=QUICK).summary
    assert summary.dense_score == 1.0
    assert summary.drop == pytest.approx(100 * (1 - summary.compressed_score))
    assert summary.words.amount(1.5) == "1.50 points"


class Right(nn.Module):
    """Works as a torchmetrics.Metric does."""

    def __init__(self, better: bool | None = True) -> None:
        super().__init__()
        self.higher_is_better = better
        self.seen: list[Tensor] = []

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        self.seen.append((outputs.argmax(1) == labels).double())

    def compute(self) -> Tensor:
        return torch.cat(self.seen).mean()

    def reset(self) -> None:
        self.seen = []


def classifier() -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)).eval()
        x = torch.randn(24, 1, 8, 8)
        return model, x, model(x).argmax(1)


def test_a_metric_that_is_fed_chooses_and_judges_on_other_samples() -> None:
    model, x, labels = classifier()
    loader = DataLoader(TensorDataset(x, labels), batch_size=5)
    result = polyadic.compress(model, loader, metric=Right(), budget=["macs=60%"], options=QUICK)
    summary = result.summary
    assert (summary.score_name, summary.dense_score, summary.judged_on) == ("Right", 1.0, "last samples")
    last = [5, 15]
    assert summary.compressed_score == float((result.model(x[last]).argmax(1) == labels[last]).double().mean())
    named = SampleTask(model, [{"input": x, "label": labels, "id": 3}], metric=Metric(Right(False), name="wrong"))
    assert (named.score_name, named.score(model)) == ("negative wrong", -1.0)


@pytest.mark.slow
def test_a_metric_of_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    model, x, labels = classifier()
    metric = torchmetrics.classification.MulticlassAccuracy(num_classes=4, average="micro")
    task = SampleTask(model, DataLoader(TensorDataset(x, labels), batch_size=5), metric=metric)
    assert (task.score_name, task.score(model)) == ("MulticlassAccuracy", 1.0)


@pytest.mark.parametrize(
    ("data", "metric", "error", "words"),
    [
        ("x", Right(), DataError, "takes batches that hold labels"),
        ("labelled", Right(None), PolyadicError, r"does not say whether more of it is better: pass polyadic.Metric\("),
        ("labelled", lambda net: math.nan, PolyadicError, "finite number; got nan"),
        ("labelled", lambda net: torch.empty(0), PolyadicError, "finite number; got none"),
        ("labelled", lambda net: "good", PolyadicError, "one number, or one per sample; got 'good'"),
        ("labelled", "psnr", PolyadicError, "a metric is a function from a network to a number, .* got str"),
        ("metric", None, PolyadicError, "it is fed with outputs and labels: pass samples that hold them as data"),
        ("given", None, PolyadicError, "Right is fed with outputs and labels: pass it as metric="),
    ],
)
def test_what_is_no_metric(data: str, metric: Any, error: type[Exception], words: str) -> None:
    model, x, labels = classifier()
    judges: dict[str, Any] = {"x": x, "labelled": DataLoader(TensorDataset(x, labels)), "metric": Right()}
    judges["given"] = Metric(Right())
    with pytest.raises(error, match=words):
        polyadic.find_plan(model, judges[data], x[:1], metric=metric, budget=["macs=60%"], options=QUICK)


def test_the_interval_is_student_s() -> None:
    """Against a table of t: 2.776 with 4 degrees of freedom, 4.303 with 2, 1.984 with 100."""
    for free, t in ((2, 4.303), (4, 2.776), (100, 1.984)):
        lost = torch.randn(free + 1, generator=torch.Generator().manual_seed(free)).double()
        interval = paired_interval(lost + 7, torch.full((free + 1,), 7.0).double())
        assert interval is not None
        half = t * float(lost.std()) / math.sqrt(free + 1)
        assert interval == pytest.approx((float(lost.mean()) - half, float(lost.mean()) + half), rel=0.04)
    assert paired_interval(torch.ones(1), torch.ones(1)) is None
    assert paired_interval(torch.ones(5), torch.ones(4)) is None


def test_what_is_lost_is_rounded_where_numbers_end() -> None:
    words = ScoreWords("PSNR", fraction=False, unit="dB")
    assert words.drop(31.6, 31.5) == 0.1
    assert words.drop(0.0, 0.0) == 0.0
    assert math.isnan(words.drop(31.6, math.nan))
    assert words.drop(3.16e-7, 3.15e-7) == pytest.approx(1e-9, rel=1e-4)
    assert ScoreWords("accuracy", fraction=True).drop(0.935, 0.93) == 0.5


def test_files_of_the_first_version_gave_hundredths_of_any_score(tmp_path: Path) -> None:
    model, x = denoiser()
    result = polyadic.compress(model, lambda net: 40.0, x[:1], max_drop=1, formats=("svd", "tucker2"), options=QUICK)
    document = result.summary.to_json()
    known = type(result.summary).from_json(document, result.plan)
    assert (known.max_drop, known.score_unit) == (1.0, "")
    for name in ("score_is_fraction", "score_unit", "judged_on"):
        del document[name]
    assert type(result.summary).from_json({**document, "max_drop": 50.0}, result.plan).max_drop == 0.5
