"""VGG-16 with batch norm for 32 x 32 images (Simonyan and Zisserman, ICLR 2015, configuration D).

Thirteen 3 x 3 convolutions in five groups, each group ended by 2 x 2 max-pooling (32 -> 1 pixel). As is usual for CIFAR
(Liu and Deng, ACPR 2015; Li et al., ICLR 2017) the three fully connected layers give way to one Linear(512, classes).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Output channels of the convolutions of each group, from configuration D of the paper.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16Cifar(nn.Module):
    """VGG-16-BN for 32 x 32 RGB images; input (N, 3, 32, 32), output (N, classes); 14.7 M parameters at 10 classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        in_channels = 3
        for group in _GROUPS:
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
