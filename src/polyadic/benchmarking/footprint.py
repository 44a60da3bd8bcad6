"""Memory of a network on an engine, measured in a fresh process: the resident set, not an estimate.

``loaded_bytes`` is by how much the memory of the process grows while the network is loaded; ``pass_bytes`` is the
high-water mark of the resident set during three passes over the one after loading. The engine's own code is in neither.
Read from the system's own accounts (``/proc``), so on Linux alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, Engine

HOW = (
    "resident set of a fresh process for each network, engine and batch; first what loading the network adds, then how "
    "far the high-water mark of three passes rises above that"
)
_SERVER = "polyadic.benchmarking.footprint_server"
# glibc keeps freed blocks below a threshold that grows with use; fixed, what is free does not count as used.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Footprints:
    """Measures networks one after the other; a context manager, because it holds a process."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._server: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="polyadic-bench-")

    def __enter__(self) -> Footprints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
        self._folder.cleanup()

    def of(
        self, engine: Engine, network: nn.Module | bytes, example: Tensor, conditions: Conditions
    ) -> dict[str, int | str | None]:
        """``loaded_bytes``, ``pass_bytes`` and ``memory_reason``, as rows have them.

        Args:
            engine: on which it is run.
            network: a module, or an ONNX graph for the engines that load one.
            example: its input, batch first.
            conditions: under which it is run.
        """
        if not Path("/proc/self/clear_refs").exists():
            return {"memory_reason": "memory is measured on Linux alone"}
        if conditions.device != "cpu":
            return {"memory_reason": "memory is measured on the processor alone"}
        folder = Path(self._folder.name)
        torch.save(example, folder / "example.pt")
        if isinstance(network, bytes):
            (folder / "network").write_bytes(network)
            sources = {}
        else:
            if any(type(module).__module__ == "__main__" for module in network.modules()):
                return {"memory_reason": "another process cannot import classes of a script: put them in a module"}
            try:
                torch.save(network, folder / "network")
            except Exception as error:  # whatever a stranger's module raises
                return {"memory_reason": f"the network cannot be sent to another process: {error}"}
            sources = _sources(network)
        job = {
            "engine": engine.name,
            "conditions": asdict(conditions),
            "folder": str(folder),
            "sources": sources,
        }
        answer = self._ask(job)
        return {
            "loaded_bytes": answer.get("loaded_bytes"),
            "pass_bytes": answer.get("pass_bytes"),
            "memory_reason": answer.get("reason"),
        }

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        server = self._server = self._server or self._start()
        try:
            if server.stdin is not None and server.stdout is not None:
                server.stdin.write(json.dumps(job).encode() + b"\n")
                server.stdin.flush()
                answer: dict[str, Any] = json.loads(server.stdout.readline())
                return answer
        except (OSError, ValueError):  # it is gone, or said nothing that is JSON
            pass
        last = self._said.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return {"reason": f"the process that measures memory ended: {last}"}

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
        with self._said.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", _SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            )

    @property
    def _said(self) -> Path:
        return Path(self._folder.name) / "errors"


def _sources(network: nn.Module) -> dict[str, str]:
    """Files of the modules that define the network's classes, by the names under which pickle looks for them."""
    names = {type(module).__module__ for module in network.modules()}
    files = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in sorted(names))
    return {name: file for name, file in files if file is not None}
