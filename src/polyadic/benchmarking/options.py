"""What is measured, and how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from polyadic.engines import ENGINES, NumberFormat
from polyadic.errors import EngineError

OnProgress = Callable[["BenchProgress"], None]


@dataclass(frozen=True)
class BenchProgress:
    """How far a measurement is: ``done`` of ``total`` steps, and what comes next."""

    done: int
    total: int
    message: str


@dataclass(frozen=True)
class BenchOptions:
    """Under which conditions networks are timed.

    Attributes:
        engines: by name; those that are not installed are named in the result.
        batches: samples of a pass.
        threads: of the processor, within a pass.
        precisions: number formats; where absent, those that each engine is usually run in.
        devices: "cpu", "cuda".
        rounds: at least so many rounds, in each of which every network gives one sample.
        seconds: of further rounds, for each network, engine and set of conditions.
        clock: "wall", or "process": the processor's time alone, without what other programs take; on one thread.
        memory: whether the memory of a pass is measured, each in a process of its own.
        fold: whether batch norms are folded and neighbouring 1 x 1 stages merged for PyTorch, in all networks alike.

    Raises:
        EngineError: an unknown engine, no batch, or a number that is too small.
    """

    engines: tuple[str, ...] = tuple(ENGINES)
    batches: tuple[int, ...] = (1, 8)
    threads: int = field(default_factory=torch.get_num_threads)
    precisions: tuple[NumberFormat, ...] | None = None
    devices: tuple[str, ...] = field(default_factory=lambda: ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))
    rounds: int = 15
    seconds: float = 2.0
    clock: Literal["wall", "process"] = "wall"
    memory: bool = True
    fold: bool = True

    def __post_init__(self) -> None:
        unknown = [name for name in self.engines if name not in ENGINES]
        if unknown or not self.engines:
            raise EngineError(f"engines are some of {', '.join(ENGINES)}; got {', '.join(unknown) or 'none'}")
        if not self.batches or not self.devices or self.precisions == ():
            raise EngineError("a time is one of some batch, device and precision; got none of one of them")
        if self.rounds < 1 or self.seconds < 0:
            raise EngineError(
                f"rounds is at least 1 and seconds at least 0; got rounds={self.rounds}, seconds={self.seconds}"
            )
        if self.clock not in ("wall", "process"):
            raise EngineError(f"times are those of the wall or of the process; got clock={self.clock!r}")
        if self.clock == "process" and (self.threads > 1 or self.devices != ("cpu",)):
            raise EngineError(
                f"the time of a process is that of a pass on one thread of the processor; got threads={self.threads} "
                f"on {', '.join(self.devices)}"
            )
