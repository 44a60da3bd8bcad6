"""Under which conditions a network runs: batch, threads, number format, device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from polyadic.errors import EngineError

NumberFormat = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True)
class Conditions:
    """What a time is a time of; two times are compared under the same conditions only.

    Attributes:
        batch: samples of a pass.
        threads: of the processor, within one pass.
        precision: number format of convolutions and products; "int8" is a network that was quantized.
        device: "cpu" or "cuda".

    Raises:
        EngineError: a number below 1, or an unknown format or device.
    """

    batch: int = 1
    threads: int = 1
    precision: NumberFormat = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch < 1 or self.threads < 1:
            raise EngineError(f"batch and threads are at least 1; got batch={self.batch}, threads={self.threads}")
        if self.precision not in get_args(NumberFormat):
            raise EngineError(f"precision is one of {', '.join(get_args(NumberFormat))}; got {self.precision!r}")
        if self.device not in ("cpu", "cuda"):
            raise EngineError(f"an engine runs on cpu or cuda; got {self.device!r}")

    def __str__(self) -> str:
        """As people read it."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = threads if self.device == "cpu" else self.device
        return f"batch {self.batch}, {where}, {self.precision}"
