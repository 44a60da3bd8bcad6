"""ResNet-18 of ImageNet and waifu2x's UpConv7, rebuilt from their weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """(N, 3, 224, 224), normalised, to logits (N, 1000); torchvision's names (He et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for number in range(1, 5):
            before, after = widths[number - 1 : number + 1]
            stage = nn.Sequential(_Block(before, after, 1 if number == 1 else 2), _Block(after, after, 1))
            self.add_module(f"layer{number}", stage)
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Four stages, the mean over the positions, one fully connected layer."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def resnet18(folder: Path) -> nn.Module:
    """Weights that were product-quantised and expanded again (CC BY-NC 4.0), strict but for their counters."""
    model = ResNet18()
    given = load_file(folder / "resnet18_imagenet_pq.safetensors")
    model.load_state_dict({name: value.float() for name, value in given.items()}, strict=False)
    return model.eval()


class UpConv7(nn.Module):
    """(N, 3, H, W) in 0..1 to (N, 3, 2 H - 28, 2 W - 28): six 3 x 3 layers and a transposed one of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128, 256, 256)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in pairwise(widths))
        self.up = nn.ConvTranspose2d(256, 3, 4, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Leaky ReLU of 0.1 after every layer but the last."""
        for layer in self.convs:
            x = F.leaky_relu(layer(x), 0.1)
        enlarged: Tensor = self.up(x)
        return enlarged


def upconv7(weights: Path) -> nn.Module:
    """From the package's ``upconv7/anime_style_scale_rgb.npz`` (MIT)."""
    model = UpConv7()
    with np.load(weights, allow_pickle=False) as held, torch.no_grad():
        for number, layer in enumerate(model.convs, 1):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.weight.copy_(torch.from_numpy(held[f"conv{number}/W"]))
            layer.bias.copy_(torch.from_numpy(held[f"conv{number}/b"]))
        model.up.weight.copy_(torch.from_numpy(held["conv7/W"]))
    return model.eval()
