"""MobileNetV2 (Sandler et al. 2018) for the 1,000 classes of ImageNet, with torchvision's names; top-1 accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trained.packed import TRAIN_PHOTOGRAPHS, images_in, to_tensor

MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, outputs, blocks, stride of the first block."""


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_unit(inputs, hidden, 1)]
        layers += [_unit(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, outputs, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """(N, 3, 224, 224), normalised, to logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        inputs = 32
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(_Inverted(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, _unit(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the positions, then one fully connected layer."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def network(weights: Path) -> nn.Module:
    """From the state dict of torchvision (BSD-3-Clause)."""
    model = MobileNetV2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def _normalised(path: Path, count: int) -> Tensor:
    images = [to_tensor(image.convert("RGB")) for _, image in zip(range(count), images_in(path), strict=False)]
    return torch.stack([(image / 255 - MEAN) / STD for image in images])


def samples(folder: Path, count: int) -> Tensor:
    """(N, 3, 224, 224): photographs of the training set."""
    return _normalised(folder / TRAIN_PHOTOGRAPHS, count)


class HeldOut:
    """The 1,000 photographs that no network was trained on."""

    def __init__(self, folder: Path) -> None:
        path = folder / "imagenet_heldout.npz"
        self.images = _normalised(path, 1000)
        with np.load(path, allow_pickle=False) as packed:
            self.labels = torch.tensor(packed["labels"].astype(np.int64))

    def score(self, model: nn.Module) -> dict[str, Tensor]:
        """Whether each image is right."""
        with torch.inference_mode():
            found = torch.cat([model(batch).argmax(1) for batch in self.images.split(50)])
        return {"top-1": (found == self.labels).double()}


def example_input() -> Tensor:
    """What is timed."""
    return torch.zeros(1, 3, 224, 224)
