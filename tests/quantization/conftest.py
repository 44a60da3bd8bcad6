"""A small network that tells patches apart, and its images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.data.images import ArrayImages


class Net(nn.Module):
    """A dense convolution, a chain of three stages, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Sequential(
            nn.Conv2d(8, 6, 1, bias=False),
            nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False),
            nn.Conv2d(6, 8, 1),
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.conv2(x))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def drawn(count: int, seed: int) -> ArrayImages:
    """Noisy images (count, 3, 8, 8); class k is brighter in channel k."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 160, (count, 3, 8, 8), generator=generator)
    pixels[torch.arange(count), labels] += 60
    return ArrayImages(pixels.to(torch.uint8), labels)


@pytest.fixture(scope="session")
def data() -> ImageData:
    sets = (drawn(96, 0), drawn(48, 1), drawn(60, 2))
    return ImageData("patches", *sets, classes=3, mean=(0.4,) * 3, std=(0.2,) * 3, digests={})


@pytest.fixture(scope="session")
def network(data: ImageData) -> nn.Module:
    """Trained for a second."""
    torch.manual_seed(0)
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    x, y = data.normalise(data.train.images(torch.arange(96))), data.train.labels
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()
