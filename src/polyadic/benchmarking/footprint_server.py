"""A process of its own that measures the memory of networks, each in a child that has seen no other network.

It reads one job in JSON from each line of its standard input, and answers with one line of JSON. It runs as a module
and knows nothing but :mod:`polyadic.engines`. The child loads the network and runs it once, so that the engine's code
is in memory, forgets it, and then measures while it loads and runs it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyadic.engines import Conditions, OnnxRuntime, OpenVino, Prepared, engine_named, first_line

_PASSES = 3


@dataclass(frozen=True)
class _Resident:
    """What of a process lies in memory, in bytes: now, now without files, and at most since the mark was reset."""

    now: int
    files: int
    highest: int

    @property
    def own(self) -> int:
        return self.now - self.files


def measure(job: dict[str, Any]) -> dict[str, int]:
    """``loaded_bytes`` and ``pass_bytes`` of the network in the folder of a job."""
    _load(job).once()
    _let_go()
    before = _resident()
    prepared = _load(job)
    _let_go()
    loaded = _resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark (Linux: proc(5))
    for _ in range(_PASSES):
        prepared.once()
    after = _resident()
    # Pages of files are code of the engine that happened not to be touched before.
    beyond = after.highest - loaded.now - max(after.files - loaded.files, 0)
    return {"loaded_bytes": max(loaded.own - before.own, 0), "pass_bytes": max(beyond, 0)}


def _load(job: dict[str, Any]) -> Prepared:
    engine, conditions = engine_named(job["engine"]), Conditions(**job["conditions"])
    folder = Path(job["folder"])
    inputs = (torch.load(folder / "example.pt", weights_only=True),)
    if isinstance(engine, OnnxRuntime | OpenVino):
        return engine.prepare_graph((folder / "network").read_bytes(), inputs, conditions)
    for name, path in job["sources"].items():
        _import(name, path)
    # Written a moment ago by the process that waits for the answer, which has run this code itself.
    network = torch.load(folder / "network", weights_only=False)
    return engine.prepare(network, inputs, conditions)


def _import(name: str, path: str) -> None:
    """A module under the name that it has in the other process, from its file where it cannot be found by name."""
    with contextlib.suppress(ImportError, ValueError):
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _let_go() -> None:
    """Give back to the system what is free."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> _Resident:
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    found = {line[0]: 1024 * int(line[1]) for line in lines if line and line[0] in ("VmRSS:", "VmHWM:", "RssFile:")}
    return _Resident(found["VmRSS:"], found["RssFile:"], found["VmHWM:"])


def _in_a_child(job: dict[str, Any]) -> bytes:
    """The answer of a child process; this one stays as small as it is."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer: dict[str, Any] = dict(measure(job))
        except BaseException as error:  # the parent waits for an answer in any case
            answer = {"reason": f"{type(error).__name__}: {first_line(error)}"}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or json.dumps({"reason": f"the process ended with status {os.waitstatus_to_exitcode(status)}"}).encode()


def main() -> None:
    """Answer jobs until there are no more; what engines print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        answers.write(_in_a_child(json.loads(line)) + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
