"""A problem small enough to train on in a second: which of three coloured corners is bright."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyadic.data.images import ArrayImages, ImageData


def corner_images(count: int, seed: int) -> ArrayImages:
    """Return ``count`` noisy 8 x 8 RGB images; class k has a brighter patch in channel k, at a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    pixels = torch.randint(0, 160, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label, label : label + 4, 2:6] += 60
    return ArrayImages(pixels, labels)


def corner_data() -> ImageData:
    """Return 192 training, 120 held-out and 120 test images."""
    return ImageData(
        name="corners",
        train=corner_images(192, seed=1),
        held_out=corner_images(120, seed=2),
        test=corner_images(120, seed=3),
        classes=3,
        mean=(0.35, 0.35, 0.35),
        std=(0.2, 0.2, 0.2),
        digests={},
    )


class SmallNet(nn.Module):
    """Two convolutions with batch norm, dropout, and a linear layer; input (N, 3, 8, 8), output (N, 3)."""

    def __init__(self, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(8)
            self.dropout = nn.Dropout(dropout)
            self.linear = nn.Linear(8 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 3)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(self.dropout(x.flatten(1)))
        return logits


class Constant(nn.Module):
    """Return the same logits for every image, times one parameter that is 1."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("logits", logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.get_buffer("logits") * self.scale
        return logits.expand(len(x), -1)
