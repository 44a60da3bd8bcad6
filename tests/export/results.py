"""A small network and its compression, by a score function that everything passes."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from polyadic.pipeline import CompressionResult, CompressOptions, compress
from polyadic.surgery import CP, CP4, TT, LayerMap, SpatialSVD, TTMatrix, Tucker2, decompose_


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


class Mixed(nn.Module):
    """Plain, grouped and transposed convolutions, the first of them under two names: (N, 3, 8, 8) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same", padding_mode="circular")
        self.again = nn.ModuleList([self.first])
        self.grouped = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(12, 7, 3, stride=2, padding=1, output_padding=1)
        self.spread = nn.ConvTranspose2d(7, 8, (3, 2), dilation=(1, 2), bias=False)
        self.parted = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.point = nn.Conv2d(6, 9, 1, stride=2, bias=False)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.first(x))))
        x = torch.relu(self.parted(torch.relu(self.spread(torch.relu(self.up(x))))))
        logits: Tensor = self.head(self.point(x).mean((2, 3)))
        return logits


TRAINS: LayerMap = {
    "first": TTMatrix(4, (3, 3), (2, 2)),
    "grouped": Tucker2(3),
    "up": TTMatrix((3, 2), (2, 4), (4, 3)),
    "spread": TT(3),
    "parted": SpatialSVD(2),
    "point": TTMatrix(2),
    "head": TTMatrix(3, (2, 3), (3, 3)),
}
"""Matrix tensor trains, padded modes among them, between chains of plain layers."""

CHAINS: LayerMap = {"grouped": CP(3), "up": Tucker2((4, 3)), "spread": CP4(3), "parted": CP(2)}
"""Grouped and transposed convolutions as plain layers alone."""


def mixed(seed: int = 0) -> Mixed:
    """A Mixed with random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mixed().eval()


def decomposed(layers: LayerMap, dtype: torch.dtype = torch.float32) -> CompressionResult:
    """A result as if :func:`compress` had chosen ``layers`` of a Mixed."""
    dense = mixed().to(dtype)
    model = copy.deepcopy(dense)
    plan = decompose_(model, layers, images(1).to(dtype))
    known = _known()
    return replace(known, model=model, dense=dense, summary=replace(known.summary, plan=plan))


@functools.cache
def _known() -> CompressionResult:
    return compressed()


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
        model or small(), lambda _: 0.75, images(1), max_drop=0.5, formats=formats, options=CompressOptions(seed=3)
    )
