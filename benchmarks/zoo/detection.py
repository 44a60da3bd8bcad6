"""Detectors of torchvision as functions from images to tensors: backbone and heads, without operators on boxes.

What picks boxes and cuts features out at them needs operators that are compiled with torchvision; it has no weights.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.libraries import torchvision_models


def detector(name: str) -> nn.Module:
    """The detector ``name`` with random weights, as backbone and heads."""
    models = torchvision_models().detection
    network = getattr(models, name)(weights=None, weights_backbone=None)
    return TwoStages(network) if hasattr(network, "roi_heads") else OneStage(network)


class OneStage(nn.Module):
    """RetinaNet, FCOS, SSD: the head on all feature maps."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to scores and boxes of every anchor."""
        answer: dict[str, Tensor] = self.head(list(self.backbone(images).values()))
        return answer


class TwoStages(nn.Module):
    """Faster and Mask R-CNN: proposals on all feature maps; the other heads on one map, pooled as a box would be."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone, self.proposals, self.heads = network.backbone, network.rpn.head, network.roi_heads

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to what each head says."""
        maps = list(self.backbone(images).values())
        scores, deltas = self.proposals(maps)
        answers = [*scores, *deltas, *self.heads.box_predictor(self.heads.box_head(F.adaptive_avg_pool2d(maps[0], 7)))]
        if self.heads.mask_predictor is not None:
            answers.append(self.heads.mask_predictor(self.heads.mask_head(F.adaptive_avg_pool2d(maps[0], 14))))
        return answers
