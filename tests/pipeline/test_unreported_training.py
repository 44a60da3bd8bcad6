"""Whoever trains and tells nothing, inside a run or after it, leaves no score of before behind."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import torch
from subjects import images
from torch import Tensor, nn

import polyadic
from polyadic.reporting import layer_rows
from polyadic.schema import Choice, Cost, LayerOutcome, Plan, Summary
from polyadic.training import FinalScores, Proxy, ProxyScore, Task

PLAN = Plan((Choice("stem", "tucker2", (2, 3)),))


class Silent(Task):
    """Scores by the size of the last bias, which training of any kind raises by 1."""

    score_name = "bias"

    def __init__(self, trains: bool) -> None:
        self.trains = trains

    def example_input(self) -> Tensor:
        return images(1)

    def score(self, model: nn.Module) -> float:
        return float(model.get_submodule("head").get_parameter("bias").detach().mean())

    def proxy(self, dense: nn.Module) -> Proxy:
        reached = self.score(dense)
        return lambda model, best=math.inf, share=1.0: ProxyScore(reached - self.score(model))

    def tune_network(
        self, model: nn.Module, teacher: nn.Module, on_epoch: Callable[..., None], checkpoint: Path | None
    ) -> None:
        if self.trains:
            with torch.no_grad():
                model.get_submodule("head").get_parameter("bias").add_(1.0)

    def calibration_batches(self) -> Iterable[Tensor]:
        return (images(16),)

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        return FinalScores(tuple(self.score(model) for model in models), None)

    def provenance(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("trains", [True, False])
def test_a_task_that_trains_without_a_report_is_scored_again(net: nn.Module, trains: bool) -> None:
    summary = polyadic.compress(net, Silent(trains), plan=PLAN).summary
    gained = summary.held_out["compressed"] - summary.held_out["before_finetuning"]
    assert gained == pytest.approx(1.0 if trains else 0.0)
    assert summary.provenance["finetuning_stop"] == ("trained, without a report" if trains else "not fine-tuned")
    assert summary.compressed_score - summary.score_before_finetuning == pytest.approx(gained)


def test_a_network_that_was_trained_after_it_was_scored_is_saved_without_that_score(
    net: nn.Module, tmp_path: Path
) -> None:
    result = polyadic.compress(net, Silent(False), plan=PLAN, max_drop=1)
    polyadic.save(result, tmp_path / "as-scored")
    assert json.loads((tmp_path / "as-scored" / "result.json").read_text())["warnings"] == []
    with torch.no_grad():
        result.model.get_submodule("head").get_parameter("bias").add_(1.0)
    polyadic.save(result, tmp_path / "trained")
    written = json.loads((tmp_path / "trained" / "result.json").read_text())
    assert written["compressed"]["score"] is None
    assert "changed after it was scored" in written["warnings"][-1]
    card = (tmp_path / "trained" / "README.md").read_text()
    assert "was not measured" in card
    assert "changed after it was scored" in card
    rescored = dataclasses.replace(
        result, summary=dataclasses.replace(result.summary, compressed_score=1.5), scored_weights=""
    )
    polyadic.save(rescored, tmp_path / "rescored")
    assert json.loads((tmp_path / "rescored" / "result.json").read_text())["compressed"]["score"] == 1.5


def test_the_error_that_is_shown_is_the_one_that_was_minimised() -> None:
    cost = Cost(1, 1, 1)
    layers = (
        LayerOutcome("a", "factorised", None, 9, 4, "svd", 2, relative_error=1.286, weighted_error=0.286),
        LayerOutcome("b", "factorised", None, 9, 4, "svd", 2, relative_error=0.125),
    )
    summary = Summary(cost, cost, 1.0, 1.0, 1.0, "score", None, None, {}, PLAN, layers, {})
    assert [row[3] for row in layer_rows(summary)] == ["0.286", "0.125"]
