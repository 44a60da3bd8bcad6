"""A U-Net: convolutions down, transposed convolutions up, shortcuts across (Ronneberger et al. 2015), but small."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Images (N, 3, H, W) to scores (N, classes, H, W); H and W are multiples of 2 to the power of ``depth``."""

    def __init__(self, width: int = 16, depth: int = 3, classes: int = 4) -> None:
        super().__init__()
        wide = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_double(S, T) for S, T in zip([3, *wide], wide, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * T, T, kernel_size=2, stride=2) for T in reversed(wide[:-1]))
        self.across = nn.ModuleList(_double(2 * T, T) for T in reversed(wide[:-1]))
        self.scores = nn.Conv2d(width, classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W)."""
        kept: list[Tensor] = []
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else self.pool(x))
            kept.append(x)
        kept.pop()
        for grow, convolve in zip(self.up, self.across, strict=True):
            x = convolve(torch.cat([kept.pop(), grow(x)], dim=1))
        scores: Tensor = self.scores(x)
        return scores


def _double(S: int, T: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(S, T, 3, padding=1, bias=False),
        nn.BatchNorm2d(T),
        nn.ReLU(),
        nn.Conv2d(T, T, 3, padding=1, bias=False),
        nn.BatchNorm2d(T),
        nn.ReLU(),
    )
