"""The options that say what is asked of a network, and where it is to be fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, cast

import torch
import typer

from polyadic.engines import (
    ENGINES,
    Conditions,
    LatencyCache,
    LatencyModel,
    NumberFormat,
    engine_named,
)
from polyadic.errors import PolyadicError
from polyadic.pipeline import CompressOptions
from polyadic.storage import cache_directory

Budget = Annotated[
    list[str] | None,
    typer.Option(
        help="what the network may cost: macs=50%, params=200k, bytes=1MB, latency=2ms, macs=2x (repeatable)",
        metavar="NAME=LIMIT",
        rich_help_panel="Goal",
    ),
]
AlarmAt = Annotated[
    float,
    typer.Option(
        help="share of the dense network's answers that may be lost before the result begins with a warning and the "
        "command ends with status 3",
        metavar="SHARE",
        min=0.0,
    ),
]


@dataclass(frozen=True, kw_only=True)
class GoalArguments:
    """What is asked for."""

    panel: ClassVar[str] = "Goal"
    max_drop: Annotated[
        str | None,
        typer.Option(
            help="what may be lost, in the unit of the score (points of an accuracy), or as a share of it (0.5%)",
            metavar="POINTS",
        ),
    ] = None
    budget: Budget = None
    alarm_at: AlarmAt = CompressOptions.alarm_at


@dataclass(frozen=True, kw_only=True)
class EngineArguments:
    """Where the network is to be fast, and who takes the times."""

    panel: ClassVar[str] = "Engine"
    engine: Annotated[str | None, typer.Option(help=f"where the network is to be fast: {', '.join(ENGINES)}")] = None
    batch: Annotated[int | None, typer.Option(help="samples of a pass on the engine (1)")] = None
    threads: Annotated[int | None, typer.Option(help="of the engine; as many as torch takes when absent")] = None
    precision: Annotated[str | None, typer.Option(help="number format on the engine (float32): bfloat16, float16")] = (
        None
    )
    require_speedup: Annotated[
        bool,
        typer.Option(
            "--require-speedup/--no-require-speedup",
            help="replace layers only by what is measurably faster on the engine, or by what is smaller, too",
        ),
    ] = True
    latency_dir: Annotated[Path | None, typer.Option(help="where measured times are kept")] = None

    def latency(self) -> LatencyModel | None:
        """Who takes the times; None where no engine is named.

        Raises:
            EngineError: no engine has that name, or numbers out of range.
            PolyadicError: conditions, and no engine.
        """
        if self.engine is None:
            given = {
                "--batch": self.batch,
                "--threads": self.threads,
                "--precision": self.precision,
                "--latency-dir": self.latency_dir,
            }
            named = [name for name, value in given.items() if value is not None]
            if named:
                raise PolyadicError(
                    f"{', '.join(named)} belong to an engine: name one (--engine onnxruntime), or none of them"
                )
            return None
        usual = Conditions(threads=torch.get_num_threads())
        conditions = Conditions(
            usual.batch if self.batch is None else self.batch,
            usual.threads if self.threads is None else self.threads,
            usual.precision if self.precision is None else cast(NumberFormat, self.precision),
        )
        cache = LatencyCache(self.latency_dir or cache_directory("latency"))
        return LatencyModel(engine_named(self.engine), conditions, cache)
