"""Boxes that overlap better ones too much are dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, operator

BLOCK = 128
"""Boxes that are compared with each other, and with all behind them, at once."""


@operator("NonMaxSuppression")
def non_max_suppression(facts: NodeFacts) -> Operation:
    """The image, the class and the number of every box that is kept, the best ones of every class first."""
    centred = bool(facts.attributes.get("center_point_box", 0))

    def run(
        boxes: Tensor,
        scores: Tensor,
        most: Tensor | None = None,
        overlap: Tensor | None = None,
        lowest: Tensor | None = None,
    ) -> Tensor:
        limit = 0 if most is None else int(most.reshape(-1)[0].item())
        threshold = 0.0 if overlap is None else float(overlap.reshape(-1)[0].item())
        corners = _corners(boxes, centred=centred)
        found = [torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)]
        for image in range(scores.shape[0]):
            for category in range(scores.shape[1]):
                of_class = scores[image, category]
                order = of_class.sort(descending=True, stable=True).indices
                if lowest is not None:
                    order = order[of_class[order] > lowest.reshape(-1)[0]]
                kept = order[kept_boxes(corners[image][order], threshold, limit)]
                found.append(torch.stack([torch.full_like(kept, image), torch.full_like(kept, category), kept], 1))
        return torch.cat(found)

    return run


def _corners(boxes: Tensor, *, centred: bool) -> Tensor:
    """The lower and the upper corner of every box, whatever two corners it is given by, or by centre and extent."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return torch.cat([first - second / 2, first + second / 2], -1)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def kept_boxes(corners: Tensor, threshold: float, limit: int) -> Tensor:
    """The places of the boxes that no better box overlaps too much, ``limit`` at most; the best box comes first."""
    left = torch.arange(len(corners), device=corners.device)
    kept, count = [left[:0]], 0
    while len(left) and count < limit:
        block, left = left[:BLOCK], left[BLOCK:]
        chosen = block[_chosen((_overlaps(corners[block], corners[block]) > threshold).tolist())]
        left = left[~(_overlaps(corners[chosen], corners[left]) > threshold).any(0)]
        kept.append(chosen)
        count += len(chosen)
    return torch.cat(kept)[:limit]


def _chosen(drops: list[list[bool]]) -> list[int]:
    """Which boxes stay where each one that stays drops others, the first one first."""
    chosen, stays = [], [True] * len(drops)
    for place, row in enumerate(drops):
        if stays[place]:
            chosen.append(place)
            stays = [still and not drop for still, drop in zip(stays, row, strict=True)]
    return chosen


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """The intersection over the union of all pairs, (boxes, others); 0 where a box is empty."""
    low, left, high, right = boxes.T[:, :, None]
    other_low, other_left, other_high, other_right = others.T
    heights = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0)
    intersection = heights * (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    area, other_area = (high - low) * (right - left), (other_high - other_low) * (other_right - other_left)
    # Empty boxes intersect nothing, and the quotient is then 0, or no number where both are empty.
    return torch.where(intersection > 0, intersection / (area + other_area - intersection), 0.0)
