"""How work is shared out, and put together again, without any second process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from corners import SmallNet, corner_data
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.training import (
    ALONE,
    Augmentation,
    FinetuneOptions,
    Processes,
    Score,
    augment,
    score_images,
    train_on_images,
)
from polyadic.training.shared_statistics import SharedStatistics


class Crowd(Processes):
    """One of several, which never meets the others."""

    def __init__(self, rank: int, count: int) -> None:
        self._rank, self._count = rank, count

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def count(self) -> int:
        return self._count

    def replica(self, model: nn.Module) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        raise NotImplementedError

    def total(self, share: Tensor) -> Tensor:
        raise NotImplementedError

    def gathered(self, value: Any) -> list[Any]:
        raise NotImplementedError

    def broadcast(self, value: Any) -> Any:
        raise NotImplementedError

    def agree(self, tensors: Sequence[Tensor]) -> None:
        raise NotImplementedError

    def failed(self, tell: Callable[[], None]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("total", "count"), [(1, 1), (7, 7), (33, 2), (128, 5), (3, 4)])
def test_rows_are_shared_out_evenly(total: int, count: int) -> None:
    """Every row once, in order; shares differ by at most one."""
    shares = [range(total)[Crowd(rank, count).rows(total)] for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    with pytest.raises(PolyadicError, match=r"each of 40 processes .* got 33, 192 and 120 images"):
        train_on_images(SmallNet(), corner_data(), FinetuneOptions(batch_size=33), processes=Crowd(3, 40))


def test_a_part_of_a_batch_is_augmented_as_in_the_batch() -> None:
    """Parts in any order undergo what the whole undergoes, and leave the generator where it leaves it."""
    images = corner_data().train.images(torch.arange(9))
    options = Augmentation(flip=True, padding=2)
    generator = torch.Generator().manual_seed(3)
    whole = augment(images, options, generator)
    for rows in (slice(0, 4), slice(4, 9), slice(8, 9)):
        again = torch.Generator().manual_seed(3)
        assert torch.equal(augment(images[rows], options, again, rows, of=9), whole[rows])
        assert torch.equal(again.get_state(), generator.get_state())


def test_scores_of_parts_join_to_the_score_of_all() -> None:
    data, model = corner_data(), SmallNet(2)
    parts = [
        score_images(model, data.held_out.take(index), data.normalise)
        for index in torch.split(torch.arange(len(data.held_out)), [50, 69, 1])
    ]
    joined, whole = Score.joined(parts), score_images(model, data.held_out, data.normalise)
    assert joined.value == whole.value
    assert torch.equal(joined.correct, whole.correct)
    assert joined.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (6, 5, 4), (6, 5, 4, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_statistics_of_one_process_are_those_of_torch(shape: tuple[int, ...], affine: bool) -> None:
    """Output, running statistics and all gradients, far from zero mean, too."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * 3 + 20
    downstream = torch.randn(shape, generator=generator)
    results = []
    for shared in (False, True):
        weight = torch.linspace(0.5, 2, 5).requires_grad_() if affine else None
        bias = torch.linspace(-1, 1, 5).requires_grad_() if affine else None
        mean, var, own = torch.zeros(5), torch.ones(5), x.clone().requires_grad_()
        if shared:
            with SharedStatistics(ALONE.total):
                y = F.batch_norm(own, mean, var, weight, bias, training=True, momentum=0.3)
        else:
            y = F.batch_norm(own, mean, var, weight, bias, training=True, momentum=0.3)
        torch.autograd.backward((y * downstream).sum())
        assert own.grad is not None
        results.append([y.detach(), mean, var, own.grad, *(p.grad for p in (weight, bias) if p is not None)])
    for torchs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=2e-5, atol=2e-5)


def test_evaluation_takes_no_part_in_sharing() -> None:
    """In evaluation mode batch norm is the layer's own, and nobody is asked."""

    def refuse(share: Tensor) -> Tensor:
        raise AssertionError("asked")

    layer = nn.BatchNorm2d(3).eval()
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    with SharedStatistics(refuse):
        assert torch.equal(layer(x), layer.forward(x))
        with pytest.raises(AssertionError, match="asked"):
            layer.train()(x)
