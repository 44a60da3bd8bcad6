"""Scores against counting by hand; the paired interval against a bootstrap."""

from __future__ import annotations

import math

import pytest
import torch
from corners import Constant, SmallNet
from torch import Generator, Tensor, nn

from polyadic.data.images import ImageData
from polyadic.errors import DataError, PolyadicError
from polyadic.training import Execution, Score, drop_interval, score_images


def test_score_counts_and_averages_image_by_image(net: SmallNet, data: ImageData) -> None:
    """Value, correct and loss are those of a loop over single images, whatever the batch size."""
    net.eval()
    correct, losses = [], []
    with torch.no_grad():
        for i, label in enumerate(data.test.labels.tolist()):
            logits = net(data.normalise(data.test.images(torch.tensor([i]))))[0].double()
            correct.append(int(logits.argmax()) == label)
            losses.append(float(logits.exp().sum().log() - logits[label]))
    for batch_size in (7, 250):
        score = score_images(net, data.test, data.normalise, batch_size=batch_size)
        assert score.correct.tolist() == correct
        assert score.value == sum(correct) / len(correct)
        assert score.loss == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_model_comes_back_as_it_was(net: SmallNet, data: ImageData) -> None:
    """Modes, strides, identities and values are untouched."""
    net.train()
    net.bn1.eval()
    before = {
        name: (tensor, tensor.clone(), tensor.stride()) for name, tensor in net.state_dict(keep_vars=True).items()
    }
    score_images(net, data.test, data.normalise, execution=Execution(precision="bfloat16"))
    assert net.training
    assert net.bn2.training
    assert not net.bn1.training
    for name, tensor in net.state_dict(keep_vars=True).items():
        same, value, stride = before[name]
        assert tensor is same
        assert torch.equal(tensor, value)
        assert tensor.stride() == stride


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_wrong(bad: float, data: ImageData) -> None:
    """Nothing crashes, nothing counts as correct, and the loss is infinite rather than NaN."""
    score = score_images(Constant(torch.tensor([1.0, bad, 0.0])), data.test, data.normalise)
    assert score.value == 0
    assert not score.correct.any()
    assert score.loss == math.inf


class Returns(nn.Module):
    """Return a fixed object."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: Tensor) -> object:
        """Return it."""
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.zeros(120, 3, 1), r"got \(120, 3, 1\)"),
        (torch.zeros(1, 3), r"got \(1, 3\)"),
        ((torch.zeros(120, 3),), "got tuple"),
        (torch.zeros(120, 2), "0 to 1"),
    ],
)
def test_logits_that_do_not_fit_are_refused(result: object, message: str, data: ImageData) -> None:
    """Wrong shapes and too few classes are an error that says what came."""
    with pytest.raises(DataError, match=message):
        score_images(Returns(result), data.test, data.normalise)


def test_batch_size_zero_is_refused(net: SmallNet, data: ImageData) -> None:
    """A score needs at least one image per batch."""
    with pytest.raises(DataError, match="batch size"):
        score_images(net, data.test, data.normalise, batch_size=0)


def score_of(correct: Tensor) -> Score:
    """Return a score with these images right."""
    return Score(value=float(correct.double().mean()), correct=correct, loss=0.0)


def test_drop_interval_agrees_with_a_bootstrap() -> None:
    """The quantiles of 2000 resampled drops lie within 0.15 points of the formula."""
    generator = Generator().manual_seed(0)
    dense = torch.rand(2000, generator=generator) < 0.9
    other = torch.where(torch.rand(2000, generator=generator) < 0.06, ~dense, dense)
    low, high = drop_interval(score_of(dense), score_of(other))
    resampled = torch.randint(2000, (2000, 2000), generator=generator)
    drops = 100 * (dense.double() - other.double())[resampled].mean(dim=1)
    assert low == pytest.approx(float(drops.quantile(0.025)), abs=0.15)
    assert high == pytest.approx(float(drops.quantile(0.975)), abs=0.15)
    assert low < 100 * (dense.double().mean() - other.double().mean()) < high


def test_drop_interval_of_identical_answers_is_zero() -> None:
    """No image differs: no drop."""
    correct = torch.tensor([True, False, True])
    assert drop_interval(score_of(correct), score_of(correct)) == (0, 0)


def test_drop_interval_needs_the_same_images() -> None:
    """Scores of different numbers of images cannot be paired."""
    with pytest.raises(DataError, match="got 3 and 2"):
        drop_interval(score_of(torch.ones(3).bool()), score_of(torch.ones(2).bool()))


def test_ties_go_to_the_lower_loss() -> None:
    """More right images win; as many win at a lower loss; equal does not beat equal."""
    correct = torch.ones(2).bool()
    assert Score(0.5, correct, 9.0).beats(Score(0.4, correct, 0.1))
    assert Score(0.5, correct, 0.1).beats(Score(0.5, correct, 0.2))
    assert not Score(0.5, correct, 0.1).beats(Score(0.5, correct, 0.1))


@pytest.mark.parametrize(("device", "precision"), [("teapot", "float32"), ("cpu", "float8"), ("cuda:99", "float32")])
def test_executions_that_cannot_run_are_refused(device: str, precision: str) -> None:
    """Unknown devices and precisions are named when the options are made."""
    with pytest.raises(PolyadicError, match=r"device|precision"):
        Execution(device=device, precision=precision)  # type: ignore[arg-type]
