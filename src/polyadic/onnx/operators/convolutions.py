"""Convolutions over one to three axes, transposed ones, and those of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.sliding import check_windows, split_pads, torch_order, windows_over
from polyadic.onnx.operators.table import NodeFacts, Operation, operator

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: torch.conv_transpose1d,
    2: torch.conv_transpose2d,
    3: torch.conv_transpose3d,
}


@operator("Conv")
def convolution(facts: NodeFacts) -> Operation:
    """A convolution, padded by the node's own numbers or by what the size of its input asks for."""
    check_windows(facts)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return convolve(facts, x, weight, bias)

    return run


def convolve(facts: NodeFacts, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution that a node describes."""
    windows = windows_over(facts, x.shape[2:], weight.shape[2:])
    padding: tuple[int, ...] = windows.before
    if not windows.symmetric:
        x, padding = F.pad(x, windows.torch_pads), (0,) * len(padding)
    function, groups = CONVOLUTIONS[weight.ndim - 2], facts.attributes.get("group", 1)
    return function(x, weight, bias, windows.strides, padding, windows.dilations, groups)


@operator("ConvInteger")
def integer_convolution(facts: NodeFacts) -> Operation:
    """A convolution of integers of 8 bits less their zero points, summed in 32 bits."""
    check_windows(facts)

    def run(x: Tensor, weight: Tensor, x_zero: Tensor | None = None, weight_zero: Tensor | None = None) -> Tensor:
        # A double holds every integer up to 2^53, thus every sum of products of 8 bits that fits into 32 bits; torch
        # has fast convolutions for doubles, but none for integers.
        inputs, kernel = x.double(), weight.double()
        if x_zero is not None:
            inputs = inputs - x_zero.double()
        if weight_zero is not None:
            kernel = kernel - weight_zero.double().reshape(-1, *[1] * (kernel.ndim - 1))
        return convolve(facts, inputs, kernel, None).to(torch.int32)

    return run


@operator("ConvTranspose")
def transposed_convolution(facts: NodeFacts) -> Operation:
    """A transposed convolution, with the size of its output given by pads, or the pads by the size."""
    check_windows(facts)
    groups = facts.attributes.get("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = weight.ndim - 2
        options = _transposed_options(facts, axes)
        front, back = _crops(facts, x.shape[2:], weight.shape[2:], options)
        strides, dilations = options["strides"], options["dilations"]
        function = TRANSPOSED[axes]
        # torch crops as much behind as in front, less what it calls output padding.
        extra = [f - b for f, b in zip(front, back, strict=True)]
        limits = [max(s, d) for s, d in zip(strides, dilations, strict=True)]
        if all(f >= 0 and 0 <= e < limit for f, e, limit in zip(front, extra, limits, strict=True)):
            return function(x, weight, bias, strides, front, extra, groups, dilations)
        full = function(x, weight, None, strides, 0, 0, groups, dilations)
        cropped = F.pad(full, torch_order([-f for f in front], [-b for b in back]))
        return cropped if bias is None else cropped + bias.reshape(-1, *[1] * axes)

    return run


def _transposed_options(facts: NodeFacts, axes: int) -> dict[str, list[int]]:
    attributes = facts.attributes
    return {
        "strides": list(attributes.get("strides", [1] * axes)),
        "dilations": list(attributes.get("dilations", [1] * axes)),
        "output_padding": list(attributes.get("output_padding", [0] * axes)),
        "pads": list(attributes.get("pads", [0] * 2 * axes)),
    }


def _crops(facts: NodeFacts, sizes: Any, kernel: Any, options: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    """What is cut from the full result of a transposed convolution in front and behind; negative where it grows."""
    axes, added = len(sizes), options["output_padding"]
    steps = list(zip(sizes, kernel, options["strides"], options["dilations"], strict=True))
    full = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in steps]
    auto_pad = facts.attributes.get("auto_pad", "NOTSET")
    wanted = facts.attributes.get("output_shape")
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, _, s, _ in steps]
    if wanted is None:
        pads = options["pads"] if auto_pad == "NOTSET" else [0] * 2 * axes
        return pads[:axes], [pad - a for pad, a in zip(pads[axes:], added, strict=True)]
    wanted = wanted[-axes:]  # some files give the samples and channels too
    totals = [max(f + a - w, 0) for f, a, w in zip(full, added, wanted, strict=True)]
    front = split_pads(totals, upper=auto_pad == "SAME_UPPER")[0]
    return list(front), [f - w - p for f, w, p in zip(full, wanted, front, strict=True)]
