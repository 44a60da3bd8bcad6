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


@dataclass(frozen=True)
class CountedOperation:
    """What one function that a module called costs, over all its calls for one sample.

    Attributes:
        module: dotted path of the innermost module that was running; empty for the model itself.
        function: what it called, such as "linear", "conv2d" or "scaled_dot_product_attention".
        macs: multiply-accumulates; 0 where they cannot be counted.
    """

    module: str
    function: str
    macs: int

    @property
    def name(self) -> str:
        """Module and function in one: ``blocks.0.attn:scaled_dot_product_attention``."""
        return f"{self.module}:{self.function}" if self.module else self.function


@dataclass(frozen=True)
class MacCount:
    """What one pass over one sample costs, part by part.

    Attributes:
        operations: in the order in which they first ran; together they are the whole.
        uncounted: operations for which there is no formula, such as a Fourier transform or a custom kernel.
    """

    operations: tuple[CountedOperation, ...]
    uncounted: tuple[CountedOperation, ...] = ()

    @property
    def macs(self) -> int:
        """Of all operations."""
        return sum(operation.macs for operation in self.operations)

    def macs_in(self, module: str) -> int:
        """Of what one module computes by itself; the modules in it have their own."""
        return sum(operation.macs for operation in self.operations if operation.module == module)
