"""What mixed training images are, and what their labels say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from corners import SmallNet
from test_train_on_images import FAST

from polyadic.data.images import ImageData
from polyadic.training import train_on_images
from polyadic.training.augment import mix_images, mixing_weights
from polyadic.training.objective import mixture_cross_entropy


@pytest.fixture
def pair(seeded: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of images."""
    first, second = torch.randint(256, (2, 5, 3, 4, 4), generator=seeded).to(torch.uint8)
    return first, second


@pytest.fixture
def seeded() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(3)


def test_an_image_is_at_least_half_of_its_mixture(seeded: torch.Generator) -> None:
    weights = mixing_weights(10000, seeded)
    assert weights.min() >= 0.5
    assert weights.max() <= 1.0
    assert weights.mean().item() == pytest.approx(0.75, abs=0.01)


def test_mixtures_lie_between_both_images(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    own, other = pair
    assert torch.equal(mix_images(own, other, torch.ones(5)), own)
    assert torch.equal(mix_images(own, other, torch.zeros(5)), other)
    half = mix_images(own, other, torch.full((5,), 0.5)).int()
    assert (2 * half - own.int() - other.int()).abs().max() <= 1


def test_both_labels_count_by_their_weights(seeded: torch.Generator) -> None:
    logits = torch.randn(2, 3, generator=seeded)
    labels, others, weights = torch.tensor([0, 1]), torch.tensor([2, 1]), torch.tensor([0.75, 0.6])
    logs = F.log_softmax(logits, dim=1)
    expected = -(0.75 * logs[0, 0] + 0.25 * logs[0, 2] + logs[1, 1]) / 2
    loss, watched = mixture_cross_entropy(logits, labels, others, weights)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert watched.item() == pytest.approx(-(logs[0, [0, 2]].max() + logs[1, 1]).item() / 2, rel=1e-6)


def test_a_network_learns_from_mixtures_and_a_seed_repeats(net: SmallNet, data: ImageData) -> None:
    options = replace(FAST, epochs=5, steps_per_epoch=None, patience=5, mixing=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    report = train_on_images(net, data, options)
    assert report.best.value > report.start.value + 0.2
    learnt = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(before)
    train_on_images(net, data, options)
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in net.state_dict().items())
    net.load_state_dict(before)
    train_on_images(net, data, replace(options, mixing=False))
    assert not torch.equal(net.conv1.weight, learnt["conv1.weight"])
