"""Convolutional networks without shortcuts, for small images.

DigitsCnn is trained in seconds and large enough to be worth compressing.

FourLayerCnn is for the truncation study (docs/studies/truncation.md): Singh, Jahromi and Orus (arXiv 2403.14379)
truncate "a vanilla four-layer CNN"; the widths here are ours. There is no batch norm, so what a truncated kernel does
is not repaired by new statistics.

VGG-16 with batch norm is configuration D of Simonyan and Zisserman (ICLR 2015): thirteen 3 x 3 convolutions in five
groups, each group ended by 2 x 2 max-pooling (32 -> 1 pixel). As is usual for CIFAR (Liu and Deng, ACPR 2015; Li et
al., ICLR 2017) the three fully connected layers give way to one Linear(512, classes).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class DigitsCnn(nn.Module):
    """Four 3 x 3 convolutions (32, 64, 64, 64 channels) with batch norm; input (N, 1, 8, 8), output (N, classes).

    Two stages at 8 x 8 pixels, a 2 x 2 max-pool, two stages at 4 x 4 pixels, global average, one linear layer: 93,546
    parameters and 2.4 M multiply-accumulates at 10 classes.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stage1 = _stage(1, 32)
        self.stage2 = _stage(32, 64)
        self.stage3 = _stage(64, 64)
        self.stage4 = _stage(64, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 8, 8) to logits (N, classes)."""
        x = F.max_pool2d(self.stage2(self.stage1(x)), 2)
        x = self.stage4(self.stage3(x))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class FourLayerCnn(nn.Module):
    """Four 3 x 3 convolutions (32, 64, 128, 256 channels) with biases; input (N, 3, 32, 32), output (N, classes).

    A 2 x 2 max-pool follows each of the first three, a global average and one linear layer the last: 390,986 parameters
    at 10 classes.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.conv4 = nn.Conv2d(128, 256, 3, padding=1)
        self.fc = nn.Linear(256, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = F.relu(self.conv4(x))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


# Output channels of the convolutions of each group of VGG-16, from configuration D of the paper.
_VGG_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16Cifar(nn.Module):
    """VGG-16-BN for 32 x 32 RGB images; input (N, 3, 32, 32), output (N, classes); 14.7 M parameters at 10 classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        in_channels = 3
        for group in _VGG_GROUPS:
            for out_channels in group:
                # The bias is redundant before a batch norm; published checkpoints of this network hold it.
                parts.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
                parts += [nn.BatchNorm2d(out_channels), nn.ReLU()]
                in_channels = out_channels
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Linear(in_channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits
