"""Where the windows of convolutions and poolings lie: kernel, strides, dilations, and pads given or worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError

AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Windows:
    """The windows along every axis that they slide over.

    Attributes:
        kernel: how many elements a window has.
        strides: from the start of a window to that of the next one.
        dilations: from an element of a window to the next one.
        before: elements of padding in front of the first one.
        after: elements of padding behind the last one.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first element of a window to its last one, both counted."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether there is as much padding in front as behind."""
        return self.before == self.after

    @property
    def torch_pads(self) -> list[int]:
        """The pads in the order of torch, which starts at the last axis."""
        return torch_order(self.before, self.after)


def torch_order(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Pads in the order of torch, which starts at the last axis."""
    return [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]


def check_windows(facts: NodeFacts) -> None:
    """Raise NotInTorchError where the windows of the node have more axes than torch slides over, or unknown pads."""
    kernel = facts.attributes.get("kernel_shape")
    if kernel is not None and not 1 <= len(kernel) <= 3:
        raise NotInTorchError(f"torch slides over 1 to 3 axes, not {len(kernel)}")
    auto_pad = facts.attributes.get("auto_pad", "NOTSET")
    if auto_pad not in AUTO_PADS:
        raise NotInTorchError(f"auto_pad '{auto_pad}' is unknown")
    if auto_pad != "NOTSET" and facts.attributes.get("ceil_mode", 0):
        # The text of the standard and ONNX Runtime count different numbers of windows.
        raise NotInTorchError(f"windows beyond the end with auto_pad '{auto_pad}' are not served")


def windows_over(facts: NodeFacts, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a node over axes of these sizes."""
    axes, attributes = len(sizes), facts.attributes
    strides = tuple(attributes.get("strides", [1] * axes))
    dilations = tuple(attributes.get("dilations", [1] * axes))
    auto_pad = attributes.get("auto_pad", "NOTSET")
    if auto_pad == "NOTSET":
        pads = attributes.get("pads", [0] * 2 * axes)
        return Windows(tuple(kernel), strides, dilations, tuple(pads[:axes]), tuple(pads[axes:]))
    unpadded = Windows(tuple(kernel), strides, dilations, (0,) * axes, (0,) * axes)
    if auto_pad == "VALID":
        return unpadded
    # As many windows as strides begin within the axis: the last one reaches this far beyond it.
    totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, strides, unpadded.reach, strict=True)]
    before, after = split_pads(totals, upper=auto_pad == "SAME_UPPER")
    return Windows(tuple(kernel), strides, dilations, before, after)


def split_pads(totals: Sequence[int], *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Each total in two halves, the larger one behind where ``upper`` is set, else in front."""
    smaller, larger = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (smaller, larger) if upper else (larger, smaller)
