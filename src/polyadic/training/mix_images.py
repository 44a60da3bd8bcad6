"""Training images mixed in pairs (mixup: Zhang et al., ICLR 2018).

With a teacher's answers to the mixtures as the target (Beyer et al., CVPR 2022) a student learns what the teacher does
between images. That is where test images lie; on the training images themselves a compressed network often answers as
its teacher does from the start, so that they have little left to teach.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def own_weights(count: int, generator: Generator) -> Tensor:
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


def mixture_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with both labels by their weights, averaged over the batch; and that with the likelier one.

    The second one is small for every network that sees one of the two images in a mixture, however sure it is of it,
    and so it tells a network that learns from one that has diverged.

    Args:
        logits: (N, classes).
        labels: of the images, int64 (N,).
        others: of those that they are mixed with, int64 (N,).
        weights: of ``labels``, (N,), from 0 to 1.
    """
    first, second = (F.cross_entropy(logits, classes, reduction="none") for classes in (labels, others))
    return torch.lerp(second, first, weights).mean(), torch.minimum(first, second).mean()
