"""Versions and machine: on what something was measured, without which a time is of no use."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from polyadic.engines.engine import Engine


def environment(engines: Iterable[Engine] = ()) -> dict[str, Any]:
    """Versions of Polyadic, torch, Python and of ``engines``; processor, accelerator, system, threads."""
    try:
        own = version("polyadic")
    except PackageNotFoundError:
        own = "not installed"
    known = {
        "polyadic": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": torch.multiprocessing.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    versions = {engine.name: engine.version for engine in engines}
    return {**known, "engines": versions} if versions else known


def _processor() -> str:
    """Its name as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
