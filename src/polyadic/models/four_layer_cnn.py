"""A plain network of four convolutions for 32 x 32 images, for the truncation study (docs/studies/truncation.md).

Singh, Jahromi and Orus (arXiv 2403.14379) truncate "a vanilla four-layer CNN"; the widths here are ours. There is no
batch norm, so what a truncated kernel does is not repaired by new statistics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
