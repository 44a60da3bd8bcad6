"""Padding with a constant or with what the tensor itself holds, and cropping by negative pads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.onnx.operators.sliding import torch_order
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

MODES = ("constant", "reflect", "edge", "wrap")


@operator("Pad")
def pad(facts: NodeFacts) -> Operation:
    """More or fewer elements in front and behind along every axis: by attributes before version 11, inputs since."""
    attributes = facts.attributes
    mode = attributes.get("mode", "constant")
    if mode not in MODES:
        raise NotInTorchError(f"padding by '{mode}' is not served")
    if facts.opset < 11:
        pads = attributes.get("pads", attributes.get("paddings"))
        if pads is None:
            raise NotInTorchError("a padding without pads is not served")
        value = attributes.get("value", 0.0)
        return lambda x: _padded(x, pads, mode, value)

    def run(x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        amounts: list[int] = pads.tolist()
        if axes is not None:
            amounts = _on_all_axes(amounts, axes.tolist(), x.ndim)
        fill = 0 if value is None or not value.numel() else value.reshape(-1)[0].item()
        return _padded(x, amounts, mode, fill)

    return run


def _on_all_axes(pads: Sequence[int], axes: Sequence[int], ndim: int) -> list[int]:
    """Pads of some axes as pads of all axes."""
    result = [0] * 2 * ndim
    for place, axis in enumerate(axes):
        result[axis % ndim] = pads[place]
        result[ndim + axis % ndim] = pads[len(axes) + place]
    return result


def _padded(x: Tensor, pads: Sequence[int], mode: str, value: float) -> Tensor:
    before, after = pads[: x.ndim], pads[x.ndim :]
    if mode == "constant":
        return torch.constant_pad_nd(x, torch_order(before, after), value)
    for axis, (front, back) in enumerate(zip(before, after, strict=True)):
        if front or back:
            x = x.index_select(axis, _sources(x.shape[axis], front, back, mode).to(x.device))
    return x


def _sources(n: int, front: int, back: int, mode: str) -> Tensor:
    """Which of ``n`` elements stands at every place of a padded axis; negative pads crop before others repeat."""
    first, last = max(-front, 0), n - 1 - max(-back, 0)
    kept = last - first + 1
    places = torch.arange(-max(front, 0), kept + max(back, 0))
    if mode == "edge":
        return places.clamp(0, kept - 1) + first
    if mode == "wrap":
        return places % kept + first
    # Reflected at the first and at the last element, again and again, places repeat after 2 (kept - 1).
    period = max(2 * (kept - 1), 1)
    turned = places % period
    return torch.minimum(turned, (period - turned) % period if kept > 1 else turned) + first
