"""ONNX files timed in ONNX Runtime, taking turns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def session_of(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the processor with ``threads`` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed_in_turns(
    files: Mapping[str, Path], feeds: Mapping[str, np.ndarray[Any, Any]], threads: int, rounds: int
) -> dict[str, Any]:
    """Medians and quartiles in ms of ``rounds`` rounds, in each of which every file runs once, after a warm-up."""
    sessions = {name: session_of(path, threads) for name, path in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for number in range(rounds + 3):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(None, dict(feeds))
            if number >= 3:
                times[name].append(1000 * (time.perf_counter() - began))
    quartiles = {name: np.quantile(values, [0.25, 0.5, 0.75]).tolist() for name, values in times.items()}
    first = next(iter(files))
    ratios = {
        name: float(np.median(np.divide(times[first], values))) for name, values in times.items() if name != first
    }
    return {"threads": threads, "rounds": rounds, "quartiles_ms": quartiles, "times_faster": ratios}
