"""The generator of DCGAN: transposed convolutions alone (Radford et al. 2016), at a fifth of its width."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Generator(nn.Module):
    """Noise (N, 100, 1, 1) to images (N, 3, 64, 64) by five 4 x 4 transposed convolutions."""

    def __init__(self, width: int = 24, noise: int = 100) -> None:
        super().__init__()
        wide = [8 * width, 4 * width, 2 * width, width]
        self.project = nn.ConvTranspose2d(noise, wide[0], 4, bias=False)
        self.body = nn.Sequential(
            *_opened(wide[0]),
            *(
                layer
                for S, T in pairwise(wide)
                for layer in (nn.ConvTranspose2d(S, T, 4, stride=2, padding=1, bias=False), *_opened(T))
            ),
        )
        self.image = nn.ConvTranspose2d(wide[-1], 3, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(N, 100, 1, 1) to (N, 3, 64, 64)."""
        image: Tensor = self.image(self.body(self.project(z))).tanh()
        return image


def _opened(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()
