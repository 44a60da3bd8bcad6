from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from polyadic.data import IMAGENET_MEAN, IMAGENET_STD, ArrayImages, ImageData, ImageSet, ImageView
from polyadic.errors import DataError


def pixels(count: int, channels: int = 3, side: int = 4) -> Tensor:
    shape = (count, channels, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def image_set(count: int = 6, channels: int = 3, side: int = 4) -> ArrayImages:
    return ArrayImages(pixels(count, channels, side), torch.arange(count) % 2)


def image_data(**changes: Any) -> ImageData:
    data = ImageData("toy", image_set(6), image_set(4), image_set(2), 2, IMAGENET_MEAN, IMAGENET_STD, {})
    return replace(data, **changes)


class Counting(ImageSet):
    """A set that a user writes: two methods are enough."""

    @property
    def labels(self) -> Tensor:
        return torch.tensor([0, 1, 0])

    def images(self, index: Tensor) -> Tensor:
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_array_images_gives_the_images_at_an_index() -> None:
    images = image_set()
    index = torch.tensor([4, 1, 1])
    assert torch.equal(images.images(index), pixels(6)[index])
    assert len(images) == 6
    assert images.image_shape == (3, 4, 4)


def test_what_array_images_gives_is_a_copy() -> None:
    original = pixels(3)
    images = ArrayImages(original, torch.zeros(3, dtype=torch.int64))
    images.images(torch.tensor([0])).zero_()
    assert torch.equal(original, pixels(3))


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"\(2, 4, 4\)"),
        (pixels(2), torch.zeros(2), "labels are int64"),
        (pixels(2), torch.zeros(2, 1, dtype=torch.int64), r"labels are int64 .*\(2, 1\)"),
        (pixels(2), torch.zeros(3, dtype=torch.int64), "2 images and 3 labels"),
        (pixels(2)[:0], torch.zeros(0, dtype=torch.int64), "may not be empty"),
    ],
)
def test_array_images_refuses_other_arrays(x: Tensor, y: Tensor, told: str) -> None:
    with pytest.raises(DataError, match=told):
        ArrayImages(x, y)


def test_a_view_of_a_view_is_a_view_of_the_origin() -> None:
    images = image_set()
    view = images.take(torch.tensor([5, 3, 1])).take(torch.tensor([2, 0]))
    assert isinstance(view, ImageView)
    assert torch.equal(view.labels, images.labels[torch.tensor([1, 5])])
    assert torch.equal(view.images(torch.tensor([0, 1])), pixels(6)[torch.tensor([1, 5])])
    assert view._source is images


@pytest.mark.parametrize("index", [torch.tensor([6]), torch.tensor([0, -1]), torch.tensor([0.5]), torch.tensor([[1]])])
def test_a_view_outside_its_source_is_refused(index: Tensor) -> None:
    with pytest.raises(DataError, match="an index"):
        image_set().take(index)


def test_a_set_of_two_methods_is_a_full_set() -> None:
    images = Counting()
    assert len(images) == 3
    assert images.image_shape == (1, 2, 2)
    assert images.take(torch.tensor([2])).images(torch.tensor([0])).flatten().tolist() == [2] * 4


def test_normalise_is_the_formula() -> None:
    raw = pixels(2)
    normal = image_data().normalise(raw)
    assert normal.dtype is torch.float32
    for channel in range(3):
        expected = (raw[:, channel].double() / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(normal[:, channel].double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(raw, pixels(2))


@pytest.mark.parametrize("images", [pixels(2).float(), pixels(2, channels=1), pixels(2)[0]])
def test_normalise_takes_raw_batches_only(images: Tensor) -> None:
    with pytest.raises(DataError, match="normalise takes uint8"):
        image_data().normalise(images)


def test_example_is_the_first_training_images() -> None:
    data = image_data()
    assert torch.equal(data.example(2), data.normalise(pixels(6)[:2]))
    assert data.example().shape == (1, *data.image_shape)


@pytest.mark.parametrize("n", [0, -1, 7])
def test_example_needs_images(n: int) -> None:
    with pytest.raises(DataError, match=rf"1\.\.6 training images; got n={n}"):
        image_data().example(n)


def test_image_data_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        image_data().classes = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mean": (0.5,)}, r"mean has one number per channel; got 1 for the 3 channel\(s\)"),
        ({"std": (0.5,) * 4}, "std has one number per channel; got 4"),
        ({"std": (0.5, 0.0, 0.5)}, "std positive"),
        ({"std": (0.5, -1.0, 0.5)}, "std positive"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean is finite"),
        ({"classes": 1}, r"labels lie in 0\.\.0 \(1 classes\); label 1 of the train set of 'toy' is 1"),
        ({"test": image_set(3, side=5)}, r"the test set has \(3, 5, 5\), the train set \(3, 4, 4\)"),
        ({"held_out": image_set(3, channels=1)}, r"the held-out set has \(1, 4, 4\)"),
        ({"held_out": image_set().take(torch.zeros(0, dtype=torch.int64))}, "the held-out set of 'toy' is empty"),
        ({"test": ArrayImages(pixels(2), torch.tensor([0, -3]))}, "label 1 of the test set of 'toy' is -3"),
    ],
)
def test_image_data_that_cannot_be_used_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        image_data(**changes)
