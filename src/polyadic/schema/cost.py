"""What a network costs, unit in the name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Cost of one network for one sample.

    Attributes:
        params: numbers that training would change.
        macs: multiply-accumulates of convolutions and matrix products (FLOPs = 2 x macs).
        bytes: size of all parameters and buffers.
    """

    params: int
    macs: int
    bytes: int
