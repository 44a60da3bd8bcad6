"""Versions and machine: on what something was measured, without which a time is of no use."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from polyadic.engines.engine import Engine, installed_version


def environment(engines: Iterable[Engine] = ()) -> dict[str, Any]:
    """Versions of Polyadic, torch, Python and of ``engines``; processor, accelerator, system, threads."""
    known = {
        "polyadic": installed_version("polyadic"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "processor": processor_fields().get("model name") or platform.processor() or "unknown",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": torch.multiprocessing.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    versions = {engine.name: engine.version for engine in engines}
    return {**known, "engines": versions} if versions else known


def processor_fields() -> dict[str, str]:
    """What Linux says of the processor: "model name", "stepping" and so on; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in parts}
