"""Random changes of uint8 training images: flips, crops, and mixtures in pairs.

Flips and crops are the recipe of He et al. (CVPR 2016), section 4.2; mixtures are mixup (Zhang et al., ICLR 2018). With
a teacher's answers to the mixtures as the target (Beyer et al., CVPR 2022) a student learns what the teacher does
between images. That is where test images lie; on the training images themselves a compressed network often answers as
its teacher does from the start, so that they have little left to teach.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from polyadic.errors import PolyadicError

LARGEST_CROPPED_SIDE = 64
"""Images with a longer side (pixels) are not cropped: four pixels of padding would change nothing there."""


@dataclass(frozen=True)
class Augmentation:
    """Which random changes a training image sees.

    Attributes:
        flip: mirror left and right with probability 1/2; turn it off where a mirror image is another class (digits).
        padding: black pixels added on each side before a window of the original size is cut at random; 0 = no crop.

    Raises:
        PolyadicError: ``padding`` is negative.
    """

    flip: bool = True
    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise PolyadicError(f"padding is a number of pixels, 0 or more; got {self.padding}")

    @classmethod
    def none(cls) -> Augmentation:
        """Leave every image as it is."""
        return cls(flip=False, padding=0)


def augment(
    images: Tensor, augmentation: Augmentation, generator: Generator, rows: slice | None = None, of: int | None = None
) -> Tensor:
    """Flip and crop each image independently.

    The whole batch moves at once: every window of the padded batch is a view (N, C, 2p+1, 2p+1, H, W), and one indexed
    read copies the chosen one per image.

    Args:
        images: uint8 (N, C, H, W).
        augmentation: what to do.
        generator: the only source of randomness; one state gives one result.
        rows: where the images are a part of a batch: which of its rows. What they undergo is then what they would
            undergo in the batch, and the generator moves on as it would for the batch.
        of: the number of images in that batch.

    Returns:
        uint8 (N, C, H, W), on the same device; ``images`` itself is never written.
    """
    count, _, height, width = images.shape
    drawn, rows = of or count, rows or slice(None)
    if augmentation.flip:
        mirrored = torch.randint(2, (drawn, 1, 1, 1), generator=generator)[rows].bool().to(images.device)
        images = torch.where(mirrored, images.flip(3), images)
    pad = augmentation.padding
    if pad and max(height, width) <= LARGEST_CROPPED_SIDE:
        top, left = torch.randint(2 * pad + 1, (2, drawn), generator=generator)[:, rows].to(images.device)
        windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(count, device=images.device), :, top, left]
    return images


def mixing_weights(count: int, generator: Generator) -> Tensor:
    """Weight of each image of a batch in its mixture, float32 (count,), uniform from 1/2 to 1."""
    return 0.5 + 0.5 * torch.rand(count, generator=generator)


def mix_images(images: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """``weights`` of ``images`` and the rest of ``others``, rounded.

    Args:
        images: uint8 (N, C, H, W).
        others: likewise, an image for each.
        weights: (N,), from 0 to 1.
    """
    own = weights.to(images.device)[:, None, None, None]
    return torch.lerp(others.float(), images.float(), own).round_().to(torch.uint8)
