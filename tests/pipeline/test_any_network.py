"""Networks of any kind go through compress with samples alone, with a metric, and with labels and a loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from subjects import Net, images, nearly_low_rank
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic
from polyadic.errors import LayerError, PolyadicError
from polyadic.search import Uniform
from polyadic.training import DistillOptions, SampleTask, ScoreTask, distillation_loss, sample_inputs

QUICK = polyadic.CompressOptions(search=Uniform())


@dataclass
class Boxes:
    """Outputs of a detector in a dataclass."""

    scores: Tensor
    sizes: Tensor


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.out = nn.Conv2d(32, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        answer: Tensor = self.out(torch.cat([fine, self.up(self.middle(fine))], 1))
        return answer


class Detector(nn.Module):
    """A list of maps, or a dict, or a dataclass of them."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU())
        self.scores, self.sizes = nn.Conv2d(24, 6, 3, padding=1), nn.Conv2d(24, 8, 3, stride=2, padding=1)
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        scores, sizes = self.scores(features), self.sizes(features)
        if self.answer == "dict":
            return {"scores": scores, "sizes": (sizes, None)}
        return Boxes(scores, sizes) if self.answer == "dataclass" else [scores, sizes]


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 24, 5), nn.ReLU())
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean(-1))
        return logits


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "segmenter": (Segmenter, (3, 8, 8)),
    "detector, list": (lambda: Detector("list"), (3, 8, 8)),
    "detector, dict": (lambda: Detector("dict"), (3, 8, 8)),
    "detector, dataclass": (lambda: Detector("dataclass"), (3, 8, 8)),
    "audio": (Audio, (1, 64)),
    "classifier": (Net, (3, 8, 8)),
}


def subject(name: str) -> tuple[nn.Module, Tensor]:
    """The network and 24 samples."""
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval(), torch.randn(24, *shape)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_unlabelled_samples_serve_a_network_of_any_kind(name: str) -> None:
    model, x = subject(name)
    result = polyadic.compress(
        model, DataLoader(x, batch_size=8), budget=["macs=70%"], formats=("tucker2", "svd"), options=QUICK
    )
    summary = result.summary
    assert summary.compressed.macs <= 0.7 * summary.dense.macs
    assert summary.score_name == "R^2 of the dense outputs"
    assert summary.dense_score == 1.0
    assert summary.provenance["data_aware"] is True
    assert summary.provenance["samples"] == {"train": 17, "held_out": 5, "last": 2}
    assert summary.held_out["compressed"] >= summary.held_out["before_finetuning"], "the best state is kept"
    assert summary.compressed_score == pytest.approx(1 - _lost(model, result.model, x[[5, 15]]), abs=1e-4)
    assert all(not p.requires_grad or p.grad is None for p in result.model.parameters())


def _lost(dense: nn.Module, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float(distillation_loss(model(x), dense(x)))


def test_samples_keep_what_a_score_alone_loses_and_the_loss_is_told() -> None:
    """Plain norms know nothing of inputs that vary along few directions only."""
    model, directions = subject("segmenter")[0], torch.randn(2, 3 * 64, generator=torch.Generator().manual_seed(1))
    x = (torch.randn(64, 2, generator=torch.Generator().manual_seed(2)) @ directions).reshape(64, 3, 8, 8)
    call: dict[str, Any] = {"budget": ["macs=35%"], "formats": ("tucker2", "svd"), "options": QUICK}
    blind = polyadic.compress(model, lambda net: 1 - _lost(model, net, x), x, **call)
    seeing = polyadic.compress(model, x, **call)
    assert _lost(model, seeing.model, x) < 0.6 * _lost(model, blind.model, x)
    assert blind.summary.provenance["data_aware"] is False
    lost = blind.summary.provenance["answers_lost"]
    assert lost == pytest.approx(_lost(model, blind.model, x), rel=1e-3)
    strict = polyadic.CompressOptions(search=Uniform(), alarm_at=0.5 * lost)
    told = polyadic.compress(model, lambda net: 1 - _lost(model, net, x), x, **{**call, "options": strict})
    assert told.summary.warnings[0].startswith(
        f"this network has lost {100 * lost:.0f} % of the dense network's answers"
    )
    assert "samples of its inputs" in told.summary.warnings[0]
    loose = polyadic.CompressOptions(search=Uniform(), alarm_at=2 * lost)
    silent = polyadic.compress(model, lambda net: 1 - _lost(model, net, x), x, **{**call, "options": loose})
    (only,) = silent.summary.warnings
    assert only.startswith("layers were decomposed from their weights alone")
    assert seeing.summary.warnings == ()


def test_a_metric_is_the_score_and_labels_with_a_loss_teach() -> None:
    model, x = subject("segmenter")
    labels = (x.sum(1) > 0).long()
    seen: list[tuple[int, ...]] = []

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        inputs, targets = batch
        seen.append((len(inputs), len(targets)))
        return F.cross_entropy(outputs, targets)

    def right(net: nn.Module) -> float:
        assert not net.training
        return float((net(x).argmax(1) == labels).float().mean())

    result = polyadic.compress(
        model,
        DataLoader(TensorDataset(x, labels), batch_size=8),
        validation=DataLoader(TensorDataset(x, labels), batch_size=8),
        loss=loss,
        metric=right,
        budget=["macs=80%"],
        max_drop=0.5,
        formats=("svd", "tucker2"),
        options=QUICK,
    )
    assert result.summary.score_name == "right"
    assert result.summary.dense_score == right(model)
    assert result.summary.compressed_score == right(result.model)
    assert seen == [(8, 8)] * (1 + 3 * DistillOptions().epochs), "tried once; with validation all samples teach"
    assert result.summary.provenance["samples"] == {"train": 24, "held_out": 16, "last": 8}


def test_labels_follow_their_samples_when_some_are_held_out() -> None:
    model, x = subject("segmenter")
    numbers = torch.arange(24)
    task = SampleTask(model, [{"x": x[:12], "number": numbers[:12]}, {"x": x[12:], "number": numbers[12:]}])
    for batch in task.train:
        assert torch.equal(batch["x"], x[batch["number"]])
    taught = torch.cat([batch["number"] for batch in task.train]).tolist()
    assert not {3, 8, 13, 18, 23, 5, 15} & set(taught)
    assert len(taught) == 17
    assert torch.equal(torch.cat([batch["x"] for batch in task.last]), x[[5, 15]])
    assert torch.equal(torch.cat([batch["x"] for batch in task.held_out]), x[[3, 8, 13, 18, 23]])


def test_apply_plan_takes_a_loader() -> None:
    model, x = nearly_low_rank(), images(16)
    plan = polyadic.Plan((polyadic.Choice("mix", "svd", (3,)), polyadic.Choice("head", "svd", (2,))))
    labelled = DataLoader(TensorDataset(x, torch.zeros(16)), batch_size=4)
    one, other = (polyadic.apply_plan(model, plan, inputs).model for inputs in (x, labelled))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(torch.cat(list(sample_inputs(lambda: iter(x.split(5)), model))), x)


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    model, x = subject("detector, list")
    task = SampleTask(model, x, tuning=DistillOptions(epochs=4))
    plan = polyadic.Plan((polyadic.Choice("body.2", "tucker2", (8, 8)), polyadic.Choice("scores", "tucker2", (3, 6))))
    whole, cut = (polyadic.apply_plan(model, plan, x).model for _ in range(2))
    report = task.tune_network(whole, model, lambda *_: None, None)
    assert report is not None
    assert report.best.loss < report.start.loss, "it learns"

    class CutError(Exception):
        pass

    def stop(record: Any, epochs: int) -> None:
        if record.epoch == 2:
            raise CutError

    with pytest.raises(CutError):
        task.tune_network(cut, model, stop, tmp_path / "state.pt")
    again = polyadic.apply_plan(model, plan, x).model
    resumed = task.tune_network(again, model, lambda *_: None, tmp_path / "state.pt")
    assert resumed is not None
    assert len(resumed.history) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, batch: torch.tensor(1.0), "got a number that does not: compute it from its first argument"),
        (lambda outputs, batch: outputs.detach().mean().item(), "got a float"),
        (lambda outputs, batch: outputs, r"got a tensor of shape \(8, 5\)"),
    ],
)
def test_a_loss_that_does_not_depend_on_the_network_is_refused_before_the_search(loss: Any, words: str) -> None:
    model, x = subject("audio")
    model.requires_grad_(False)
    with pytest.raises(LayerError, match=words):
        polyadic.find_plan(model, DataLoader(x, batch_size=11), loss=loss, budget=["macs=80%"])


def test_a_metric_that_is_no_number_is_refused_before_the_search() -> None:
    model, x = subject("audio")
    with pytest.raises(PolyadicError, match="finite number; got nan"):
        polyadic.find_plan(model, x, metric=lambda net: math.nan, budget=["macs=80%"], options=QUICK)


def test_what_goes_with_samples_alone_is_refused_beside_a_score() -> None:
    model, x = subject("audio")
    for judge in (lambda net: 0.5, ScoreTask(lambda net: 0.5)):
        with pytest.raises(PolyadicError, match=r"metric goes with samples \(a DataLoader\)"):
            polyadic.compress(model, judge, x[:1], metric=lambda net: 0.5, budget=["macs=80%"])


def test_the_distance_is_the_share_of_what_varies() -> None:
    targets = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert float(distillation_loss(targets, targets)) == 0
    mean = targets.mean().expand_as(targets)
    assert float(distillation_loss([mean, targets], (targets, targets))) == pytest.approx(0.5)
    with pytest.raises(LayerError, match="outputs of the same shapes"):
        distillation_loss(targets[:2], targets)
    with pytest.raises(LayerError, match="floating-point tensors; got str"):
        distillation_loss("text", targets)
