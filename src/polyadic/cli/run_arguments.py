"""The options of a run: where its files are kept, its seed, what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from polyadic.surgery import FactorCache, default_cache_directory

Seed = Annotated[int, typer.Option(help="same seed, same factors, same plan")]
CacheDir = Annotated[Path | None, typer.Option(help="where factored kernels are kept")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object on the last line of stdout")]


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Where a run that may be gone on with keeps its files, and what it shows."""

    panel: ClassVar[str] = "Run"
    out: Annotated[Path, typer.Option(help="folder for what the run makes, and for the log of its trials")]
    seed: Seed = 0
    resume: Annotated[bool, typer.Option(help="go on with the run in OUT")] = False
    cache_dir: CacheDir = None
    live: Annotated[bool, typer.Option("--live", help="show the best plans and the last trials as they come")] = False
    json: AsJson = False


def factor_cache(directory: Path | None) -> FactorCache:
    """The cache of factored kernels in ``--cache-dir``, else where it usually is."""
    return FactorCache(directory or default_cache_directory())
