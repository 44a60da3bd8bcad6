"""Flips and crops against an oracle that cuts one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from polyadic.errors import PolyadicError
from polyadic.training import Augmentation, augment


def numbered(count: int, height: int, width: int) -> Tensor:
    """Return images (count, 3, height, width) whose pixels are all above zero and rarely equal."""
    generator = Generator().manual_seed(0)
    return torch.randint(1, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def window(image: Tensor, top: int, left: int, pad: int, mirrored: bool) -> Tensor:
    """Cut one window pixel by pixel: black outside the image, mirrored before it is cut."""
    channels, height, width = image.shape
    cut = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                row, column = y + top - pad, x + left - pad
                if 0 <= row < height and 0 <= column < width:
                    cut[c, y, x] = image[c, row, width - 1 - column if mirrored else column]
    return cut


def matches(image: Tensor, changed: Tensor, pad: int, flip: bool) -> list[tuple[int, int, bool]]:
    """Return every (top, left, mirrored) whose window is ``changed``."""
    places = [(top, left, m) for top in range(2 * pad + 1) for left in range(2 * pad + 1) for m in {False, flip}]
    return [place for place in places if torch.equal(window(image, *place[:2], pad, place[2]), changed)]


@pytest.mark.parametrize(("flip", "pad"), [(True, 0), (False, 1), (True, 1)])
def test_every_image_is_exactly_one_allowed_window(flip: bool, pad: int) -> None:
    """Each result is one flip and one window of its own image, and all of them occur."""
    images = numbered(160, 3, 4)
    changed = augment(images, Augmentation(flip=flip, padding=pad), Generator().manual_seed(3))
    seen = [matches(image, new, pad, flip) for image, new in zip(images, changed, strict=True)]
    assert all(len(found) == 1 for found in seen)
    assert {found[0] for found in seen} == {
        (top, left, m) for top in range(2 * pad + 1) for left in range(2 * pad + 1) for m in {False, flip}
    }


def test_one_seed_gives_one_result_and_leaves_the_images() -> None:
    """The generator is the only source of randomness, and the input is never written."""
    images = numbered(16, 8, 8)
    before = images.clone()
    first, again, other = (augment(images, Augmentation(), Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert first.dtype == torch.uint8


def test_large_images_are_not_cropped() -> None:
    """Above 64 pixels only the flip remains."""
    images = numbered(8, 66, 20)
    changed = augment(images, Augmentation(flip=True, padding=4), Generator().manual_seed(0))
    assert all(
        torch.equal(new, image) or torch.equal(new, image.flip(2)) for image, new in zip(images, changed, strict=True)
    )
    assert not torch.equal(changed, images)


def test_none_changes_nothing() -> None:
    """``Augmentation.none()`` is the identity."""
    images = numbered(4, 8, 8)
    assert torch.equal(augment(images, Augmentation.none(), Generator()), images)


def test_negative_padding_is_refused() -> None:
    """The message says what came."""
    with pytest.raises(PolyadicError, match="got -1"):
        Augmentation(padding=-1)
