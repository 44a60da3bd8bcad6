from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import polyadic
from polyadic.pipeline.alarm import is_ruined, ruin_warning
from polyadic.schema import SearchResult
from polyadic.search import Uniform
from polyadic.training import outputs_lost


class Denoiser(nn.Module):
    """Takes a share of a fixed smoothing away from its input."""

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 1, 3, padding=1)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x - self.share * self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class Unchanged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def dense() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_denoiser_that_returns_its_input_has_lost_everything(dense: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        y = dense(x)
    assert float((x - y).square().sum() / (y - y.mean()).square().sum()) < 0.01, "outputs look alike"
    assert outputs_lost(dense, Unchanged(), [x]) >= 1.0
    assert outputs_lost(dense, dense, [x]) == 0.0
    assert outputs_lost(Unchanged(), Unchanged(), [x]) == 0.0


def found_with(dense: nn.Module, judge: Any, alarm_at: float = 0.25, **more: Any) -> SearchResult:
    options = polyadic.CompressOptions(search=Uniform(), alarm_at=alarm_at)
    return polyadic.find_plan(dense, judge, budget=["macs=30%"], formats=("tucker2",), options=options, **more)


def test_a_search_compares_outputs_on_samples_that_chose_nothing(dense: nn.Module, x: Tensor) -> None:
    task = polyadic.SampleTask(dense, x)
    found = found_with(dense, task, alarm_at=0.01)
    known = found.provenance
    applied = polyadic.apply_plan(dense, found.plan, next(iter(task.calibration_batches())))
    assert known["answers_lost"] == pytest.approx(task.outputs_lost(dense, applied.model)[0], rel=1e-3)
    assert known["answers_compared_on"] == "last samples"
    first = found.warnings[0]
    assert first.startswith(f"before fine-tuning a network with this plan has lost {100 * known['answers_lost']:.0f} %")
    assert "on the last samples, more than the 1 %" in first
    assert "give a looser budget, or fine-tune it" in first
    assert found_with(dense, x, alarm_at=2.0).warnings == ()


def test_a_score_alone_is_told_what_samples_would_keep(dense: nn.Module, x: Tensor) -> None:
    found = found_with(dense, lambda model: -float((model(x) - dense(x)).square().mean()), example_input=x)
    assert "give samples of its inputs" in found.warnings[0]
    assert found.warnings[1].startswith("layers were decomposed from their weights alone")
    assert found.provenance["answers_compared_on"] == "example input"
    assert found.provenance["data_aware"] is False


def test_a_network_that_scores_as_well_as_the_dense_one_is_no_ruin(dense: nn.Module, x: Tensor) -> None:
    found = found_with(dense, polyadic.SampleTask(dense, x, metric=lambda model: 1.0), alarm_at=0.0)
    assert (found.provenance["answers_lost"], found.warnings) == (0.0, ())


@pytest.mark.parametrize(("lost", "words"), [(0.5, "has lost 50 %"), (1.3, "has lost all"), (math.inf, "has lost all")])
def test_the_warning_says_how_much_is_lost_and_what_helps(lost: float, words: str) -> None:
    known = {"answers_lost": lost, "alarm_at": 0.25, "answers_compared_on": "test images"}
    (told,) = ruin_warning(known, carried_out=True)
    assert words in told
    assert told.endswith("give a looser budget, or fine-tune it more")
    assert is_ruined(known)


@pytest.mark.parametrize(
    "known", [{}, {"answers_lost": 0.2, "alarm_at": 0.2}, {"answers_lost": math.nan, "alarm_at": 0}]
)
def test_what_is_within_the_share_or_not_known_is_no_ruin(known: dict[str, float]) -> None:
    assert not is_ruined(known)
    assert ruin_warning(known, carried_out=False) == ()
