"""A file that was written, run beside the network that it was written from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from polyadic.engines import tensors_of
from polyadic.errors import EngineError
from polyadic.export.export_source import answered
from polyadic.export.file_formats import Run

LIMIT = 1e-4
"""Largest difference that rounding in float32 explains, relative to the largest output."""


@dataclass(frozen=True)
class Comparison:
    """How far a file's answers are from the network's.

    Attributes:
        batch: samples of the pass.
        max_difference: largest difference of any number of any output.
        mean_difference: mean over all numbers of all outputs.
        relative: the largest difference of an output divided by the largest of its numbers, of the worst output.
        top1_agreement: share of positions of the first output (samples, or pixels where it has them) whose largest
            channel is the same; None where it has no channels to choose from.
    """

    batch: int
    max_difference: float
    mean_difference: float
    relative: float
    top1_agreement: float | None

    @property
    def agrees(self) -> bool:
        """Whether the difference is one of rounding; one that is not a number is none."""
        return self.relative <= LIMIT


def compared(network: nn.Module, run: Run, inputs: tuple[Tensor, ...]) -> Comparison:
    """Run both on ``inputs`` (batch first).

    Raises:
        EngineError: the file answers with other outputs, or outputs of other shapes.
    """
    wanted = tensors_of(answered(network, inputs))
    got = run(inputs)
    shapes = [tuple(tensor.shape) for tensor in wanted], [tuple(tensor.shape) for tensor in got]
    if shapes[0] != shapes[1]:
        raise EngineError(
            f"a file answers as its network does; for a batch of {len(inputs[0])} outputs of shape {shapes[0]} were "
            f"expected, and {shapes[1]} came"
        )
    pairs = [(a.double(), b.double()) for a, b in zip(wanted, got, strict=True) if a.numel()]
    differences = [(a - b).abs() for a, b in pairs]
    count = sum(difference.numel() for difference in differences)
    return Comparison(
        batch=len(inputs[0]),
        max_difference=_worst([float(difference.max()) for difference in differences]),
        mean_difference=sum(float(difference.sum()) for difference in differences) / max(count, 1),
        relative=_worst([_relative(d, a) for d, (a, _) in zip(differences, pairs, strict=True)]),
        top1_agreement=_top1(*pairs[0]) if pairs else None,
    )


def _relative(difference: Tensor, wanted: Tensor) -> float:
    largest, scale = float(difference.max()), float(wanted.abs().max())
    return largest / scale if scale else (0.0 if largest == 0.0 else math.inf)


def _worst(values: list[float]) -> float:
    """The largest; not a number if one of them is none, which ``max`` may pass over."""
    return math.nan if any(math.isnan(value) for value in values) else max(values, default=0.0)


def _top1(wanted: Tensor, got: Tensor) -> float | None:
    if wanted.ndim < 2 or wanted.shape[1] < 2:
        return None
    return float((wanted.argmax(1) == got.argmax(1)).double().mean())
