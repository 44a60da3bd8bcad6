"""Kernels of four indices, and a small trained network with batch norm."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn

from polyadic.data.images import ArrayImages, ImageData
from polyadic.training import Augmentation, Execution, FinetuneOptions, train_on_images

SHAPE = (6, 5, 3, 2)
PLAIN = Execution(device="cpu", precision="float32")


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    """Two convolutions with batch norm, one without a window, and a classifier: (N, 3, 8, 8) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))
        logits: Tensor = self.head(self.mix(x).flatten(1))
        return logits


def patches(count: int, seed: int) -> ArrayImages:
    """Images of which channel k has a bright patch for class k."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 150, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label, label : label + 4, 2:6] += 50
    return ArrayImages(pixels, labels)


def patch_data() -> ImageData:
    half = (0.5, 0.5, 0.5)
    return ImageData("patches", patches(120, 0), patches(60, 1), patches(45, 2), 3, half, half, {"source": "seeds"})


def trained_net() -> nn.Module:
    """A network that knows the patches; a copy for each caller."""
    return copy.deepcopy(_trained())


@cache
def _trained() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net()
    options = FinetuneOptions(
        epochs=4, batch_size=20, learning_rate=0.03, schedule="cosine", augmentation=Augmentation.none()
    )
    train_on_images(model, patch_data(), options, execution=PLAIN)
    return model
