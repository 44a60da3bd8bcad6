"""Whether a network has been trained on the images that are held out here.

Published weights were trained on all training images, and those that are held out afterwards are no news to them. A
network that is close to the dense one still knows them by heart; fine-tuning on the other images makes it forget some
of that, which costs held-out score and nothing else.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from polyadic.data import ImageData
from polyadic.training.execution import Execution
from polyadic.training.score_images import NORMAL_97_5, score_images

IMAGES = 2000  # of each kind: tells differences of a point where both are above 97 %
FEWEST = 1000  # of each kind: among fewer a gap of a point or two would pass for chance


def has_seen(model: nn.Module, data: ImageData, execution: Execution, batch_size: int = 250) -> bool:
    """Whether ``model`` scores on held-out images as it does on training images, within what chance explains.

    A network that has not seen the held-out images is better on those that it was trained on. Where there is no such
    gap the held-out images tell nothing that training images do not. Where there are fewer than :data:`FEWEST` of
    either, nothing can be told, and the answer is no.

    Args:
        model: as it was published, (n, C, H, W) -> logits (n, classes).
        data: training and held-out images; the first of each are looked at.
        execution: where and how.
        batch_size: images per forward pass.

    Raises:
        DataError: the logits do not fit the labels.
    """
    if min(len(data.train), len(data.held_out)) < FEWEST:
        return False
    rates, variance = [], 0.0
    for images in (data.train, data.held_out):
        some = images.take(torch.arange(min(IMAGES, len(images))))
        rate = score_images(model, some, data.normalise, execution=execution, batch_size=batch_size).value
        variance += rate * (1.0 - rate) / len(some)
        rates.append(rate)
    return rates[0] - rates[1] <= NORMAL_97_5 * math.sqrt(variance)
