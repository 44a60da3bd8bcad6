"""How a network is brought to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from polyadic.errors import QuantizationError

End = Literal["first", "last"]


@dataclass(frozen=True)
class QuantizeOptions:
    """What need not be said.

    Attributes:
        images: training images that ranges of activations are taken from.
        batch: images of a pass.
        judges: held-out training images that choose among recipes; all of them where there are fewer.
        balance: move the scales of chains to where 8 bits want them first.
        ends: try the first and the last layer in float32.
        worth: share of the divergence that a layer in float32 has to save.

    Raises:
        QuantizationError: a number out of its range.
    """

    images: int = 512
    batch: int = 64
    judges: int = 2000
    balance: bool = True
    ends: bool = True
    worth: float = 0.2

    def __post_init__(self) -> None:
        for name in ("images", "batch", "judges"):
            if getattr(self, name) < 1:
                raise QuantizationError(f"{name} is a number of images from 1 up; got {getattr(self, name)}")
        if not 0 <= self.worth < 1:
            raise QuantizationError(f"worth is a share from 0 to below 1; got {self.worth}")


@dataclass(frozen=True)
class Recipe:
    """One way to quantize.

    Attributes:
        method: how ranges of activations are found, in the quantizer's words.
        kept: ends of the network that stay in float32.
        corrected: biases are shifted to the float network's mean outputs.
    """

    method: str
    kept: tuple[End, ...] = ()
    corrected: bool = False

    def __str__(self) -> str:
        """As people read it."""
        biases = ", biases corrected" if self.corrected else ""
        return self.method + biases + (f", {' and '.join(self.kept)} layer in float32" if self.kept else "")
