"""One small network of everything that a careless compression tool trips over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 12


class Oddities(nn.Module):
    """Images (N, 3, 24, 20) to class scores (N, 7).

    ``geometry`` holds layers of unusual geometry, all on the same features; ``computed`` layers whose weight is
    computed; ``tied`` two modules with one weight. ``twice`` is one module that runs two times, ``named`` one module
    under two names; the weight of ``borrowed`` is read by the network itself, and ``idle`` never runs.
    """

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, (5, 4), stride=(2, 1), padding=(2, 0))
        self.geometry = nn.ModuleDict(geometry())
        self.computed = nn.ModuleDict(computed())
        self.tied = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.tied[1].weight = self.tied[0].weight
        self.twice = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.named = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.named_again = self.named
        self.borrowed = nn.Conv2d(WIDTH, WIDTH, 1)
        self.idle = nn.Conv2d(WIDTH, WIDTH, 3)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 24, 20) to (N, 7)."""
        x = self.stem(x).relu()
        layers = [*self.geometry.values(), *self.computed.values(), self.named, self.named_again]
        x = self.tied[1](self.tied[0](x)[..., :6, :5]) + torch.stack(
            [F.adaptive_avg_pool2d(layer(x), (6, 5)) for layer in layers]
        ).sum(0)
        x = self.twice(F.avg_pool2d(self.twice(x.relu()), 2))
        x = self.borrowed(x) + F.conv2d(x, self.borrowed.weight)
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def geometry() -> dict[str, nn.Module]:
    """Layers from ``WIDTH`` to ``WIDTH`` channels, by what is unusual about them."""
    square = {"kernel_size": 3, "padding": 1}
    return {
        "row": _conv(kernel_size=(1, 5), padding=(0, 2)),
        "column": _conv(kernel_size=(5, 1), padding=(2, 0)),
        "even": _conv(kernel_size=2),
        "even_and_odd": _conv(kernel_size=(4, 3), padding=(2, 1), bias=False),
        "rectangular_stride": _conv(**square, stride=(2, 1)),
        "stride_above_window": _conv(kernel_size=2, stride=(3, 4)),
        "pointwise_stride": _conv(kernel_size=1, stride=2),
        "pointwise_padded": _conv(kernel_size=1, padding=(1, 0)),
        "same": _conv(kernel_size=(5, 3), padding="same"),
        "same_dilated": _conv(kernel_size=3, padding="same", dilation=(1, 2)),
        "valid": _conv(kernel_size=3, padding="valid"),
        "reflect": _conv(**square, padding_mode="reflect"),
        "replicate": _conv(kernel_size=(3, 5), padding=(1, 2), padding_mode="replicate"),
        "circular": _conv(**square, padding_mode="circular"),
        "dilated": _conv(kernel_size=3, padding=(2, 3), dilation=(2, 3)),
        "grouped": _conv(**square, groups=3),
        "grouped_pointwise": _conv(kernel_size=1, groups=2),
        "grouped_strided": _conv(kernel_size=(3, 2), stride=(1, 2), groups=4, bias=False),
        "depthwise": _conv(**square, groups=WIDTH),
        "transposed": _transposed(kernel_size=4, stride=2, padding=1),
        "transposed_odd": _transposed(kernel_size=(3, 2), stride=(2, 1), output_padding=(1, 0), dilation=(1, 2)),
        "transposed_pointwise": _transposed(kernel_size=1, stride=2, bias=False),
        "transposed_grouped": _transposed(kernel_size=3, stride=2, groups=3),
    }


def computed() -> dict[str, nn.Module]:
    """Layers whose weight is not a parameter but computed from some."""
    return {
        "weight_norm": nn.utils.parametrizations.weight_norm(_conv(kernel_size=3, padding=1)),
        "spectral_norm": nn.utils.parametrizations.spectral_norm(_conv(kernel_size=1)),
        "spectral_norm_by_hook": nn.utils.spectral_norm(_conv(kernel_size=3, padding=1)),
    }


def _conv(**options: object) -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, **options)  # type: ignore[arg-type]


def _transposed(**options: object) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(WIDTH, WIDTH, **options)  # type: ignore[arg-type]
