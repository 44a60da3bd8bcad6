"""On what a time was measured: a time is of no use without it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from polyadic.engines import Engine


def environment(engines: Iterable[Engine], threads: int) -> dict[str, Any]:
    """Processor, accelerator, system, and the versions of the engines."""
    return {
        "processor": _processor(),
        "cores": torch.multiprocessing.cpu_count(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "engines": {engine.name: engine.version for engine in engines},
    }


def _processor() -> str:
    """Its name as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
