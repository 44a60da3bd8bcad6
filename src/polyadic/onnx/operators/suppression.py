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
    alive = torch.ones(len(corners), dtype=torch.bool, device=corners.device)
    kept: list[int] = []
    for start in range(0, len(corners), BLOCK):
        if len(kept) >= limit:
            break
        block = corners[start : start + BLOCK]
        drops = _overlaps(block, corners[start:]) > threshold
        left, rows = alive[start : start + BLOCK].tolist(), drops[:, : len(block)].tolist()
        chosen = []
        for place, row in enumerate(rows):
            if left[place]:
                chosen.append(place)
                left = [still and not drop for still, drop in zip(left, row, strict=True)]
        kept.extend(start + place for place in chosen)
        alive[start:] &= ~drops[chosen].any(0)
    return torch.tensor(kept[:limit], dtype=torch.int64, device=corners.device)


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """The intersection over the union of all pairs, (boxes, others); 0 where a box is empty."""
    lower = torch.maximum(boxes[:, None, :2], others[:, :2])
    upper = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    intersection = (upper - lower).clamp(min=0).prod(-1)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others))
    union = area[:, None] + other_area - intersection
    valid = (intersection > 0) & (area[:, None] > 0) & (other_area > 0) & (union > 0)
    return torch.where(valid, intersection / union, torch.zeros_like(union))
