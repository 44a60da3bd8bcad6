"""What a network costs, unit in the name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["macs", "params", "latency"]
"""What a layer can be said to cost; bytes follow from parameters."""


@dataclass(frozen=True)
class Cost:
    """Cost of one network for one sample.

    Attributes:
        params: numbers that training would change.
        macs: multiply-accumulates of convolutions and matrix products (FLOPs = 2 x macs).
        bytes: size of all parameters and buffers.
        latency: milliseconds of one pass over a whole batch, on the engine and under the conditions that were asked
            for; None where no engine was named.
    """

    params: int
    macs: int
    bytes: int
    latency: float | None = None
