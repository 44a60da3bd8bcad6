"""Networks to 8 bits by samples without labels: which of them give ranges, which choose, and what is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from noisy import Noisy
from torch import Tensor, nn

from polyadic import Metric, SampleTask, distillation_loss
from polyadic.errors import QuantizationError
from polyadic.quantization import QuantizeOptions, measure_on_samples, quantize
from polyadic.training import DistillOptions

OPTIONS = QuantizeOptions(images=40, batch=16, ends=False)
X = torch.randn(80, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def task_of(network: nn.Module, samples: Any = X, **more: Any) -> SampleTask:
    return SampleTask(network, samples, tuning=DistillOptions(epochs=0), **more)


def test_samples_that_teach_give_ranges_and_held_out_ones_choose_by_outputs(network: nn.Module) -> None:
    task, quantizer = task_of(network), Noisy()
    found = quantize(network, task, quantizer, OPTIONS)
    taught = torch.cat(task.train)
    torch.testing.assert_close(torch.cat(quantizer.batches), taught[:40])
    assert [len(batch) for batch in quantizer.batches] == [16, 16, 8]
    assert [trial.recipe.method for trial in found.trials] == ["loud", "quiet"]
    held_out = torch.cat(task.held_out)
    for trial, made in zip(found.trials, quantizer.made, strict=False):
        assert trial.verdict.accuracy is None
        with torch.no_grad():
            lost = float(distillation_loss(made(held_out), network(held_out)))
        assert trial.verdict.divergence == pytest.approx(lost, rel=1e-4)


def test_the_last_samples_judge_by_the_outputs_of_the_dense_network(network: nn.Module) -> None:
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.get_submodule("head").get_parameter("weight").mul_(0.9)
    task, quantizer = task_of(network), Noisy()
    found = {"compressed": quantize(other, task, quantizer, OPTIONS)}
    plain, rounded = measure_on_samples(found, task, quantizer, batches=(1, 3), seconds=0.01)
    last = torch.cat(task.last)
    with torch.no_grad():
        assert plain.score == pytest.approx(1 - float(distillation_loss(other(last), network(last))), abs=1e-5)
    assert rounded.score < plain.score < 1
    assert (plain.drop, rounded.drop) == (0, pytest.approx(100 * (plain.score - rounded.score)))
    assert (set(plain.milliseconds), plain.bytes, rounded.bytes) == ({1, 3}, 4, 1)


def test_a_metric_is_asked_with_batches_of_its_own(network: nn.Module) -> None:
    def closeness(model: nn.Module) -> Tensor:
        return -(model(X[:37]) - network(X[:37])).square().flatten(1).mean(1)

    task, quantizer = task_of(network, metric=Metric(closeness, unit="dB")), Noisy()
    found = {"net": quantize(network, task, quantizer, OPTIONS)}
    plain, rounded = measure_on_samples(found, task, quantizer, batches=(), seconds=0.01)
    assert plain.score == pytest.approx(0, abs=1e-9)
    assert rounded.drop == pytest.approx(-rounded.score, rel=1e-6)


def test_all_outputs_of_a_network_count(network: nn.Module) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": x.flatten(1), "b": self.head(x.flatten(1))}

    class Both(Noisy):
        def prepare(self, *arguments: Any) -> Any:
            prepared: Any = super().prepare(*arguments)
            module = prepared.module
            prepared.answer = lambda x: tuple(module(x).values())
            return prepared

    two, quantizer = Two().eval().requires_grad_(False), Both()
    task = task_of(two)
    found = quantize(two, task, quantizer, OPTIONS)
    held_out = torch.cat(task.held_out)
    lost = float(distillation_loss(quantizer.made[1](held_out), two(held_out)))
    assert found.trials[-1].verdict.divergence == pytest.approx(lost, rel=1e-4)
    assert measure_on_samples({"net": found}, task, quantizer, batches=())[0].score == pytest.approx(1)


class Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def test_what_cannot_be_quantized_by_samples_is_said(network: nn.Module) -> None:
    task = task_of(Sum(), [(X[:40], X[:40])])
    with pytest.raises(QuantizationError, match="networks of one input are quantized, and this one takes several"):
        quantize(Sum(), task, Noisy(), OPTIONS)
    task = task_of(network, [X[:40], X[40:, :, :6]])
    with pytest.raises(QuantizationError, match="samples of one size"):
        quantize(network, task, Noisy(), OPTIONS)
    task = task_of(network, metric=lambda model: float(model(X).logits.mean()) if model is not network else 0.0)
    quantizer = Noisy()
    found = quantize(network, task_of(network), quantizer, OPTIONS)
    with pytest.raises(QuantizationError, match="AttributeError"):
        measure_on_samples({"net": found}, task, quantizer, batches=())
