"""Write a benchmark's figures beside the environment that they were measured in."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def record(name: str, figures: dict[str, Any]) -> Path:
    """Write ``results/NAME.json`` with the command, the machine and ``figures``; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"command": command(), "environment": environment(), **figures}, indent=1) + "\n")
    return path


def rows_in(path: Path) -> dict[str, Any]:
    """The rows that a benchmark has written so far, by name."""
    rows: dict[str, Any] = json.loads(path.read_text()).get("rows", {}) if path.exists() else {}
    return rows


def command() -> str:
    """The command line of this process."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def environment() -> dict[str, Any]:
    """Processor, threads and versions."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()
