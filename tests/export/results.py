"""A small network and its compression, by a score function that everything passes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyadic.pipeline import CompressionResult, CompressOptions, compress


class Small(nn.Module):
    """Two convolutions, one of them under two names, and a classifier: (N, 3, 8, 8) to (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding="same", padding_mode="reflect")
        self.twin = nn.ModuleDict({"again": self.second})
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        logits: Tensor = self.head(self.twin["again"](x).mean((2, 3)))
        return logits


def small(seed: int = 0) -> Small:
    """A Small with random weights and statistics, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Small()
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(1, 2)
    return model.eval()


def images(count: int = 3) -> Tensor:
    """Random images (N, 3, 8, 8)."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def compressed(model: nn.Module | None = None, formats: tuple[str, ...] = ("cp-epc", "svd")) -> CompressionResult:
    """The result of compressing a Small as far as it goes."""
    return compress(
        model or small(), lambda _: 0.75, images(1), max_drop=1.0, formats=formats, options=CompressOptions(seed=3)
    )
