"""Engines: a network made ready to run on one of them, and times that can be compared."""

from polyadic.engines.eager import PyTorch, frozen_weights
from polyadic.engines.engine import Engine, Prepared, first_line, silence, tensors_of
from polyadic.engines.latency_cache import LatencyCache, Measured
from polyadic.engines.latency_model import LatencyModel, Timer, draw_weights, interpolate_time, time_in_turns
from polyadic.engines.machine import environment
from polyadic.engines.onnx_graph import input_names, onnx_bytes
from polyadic.engines.onnx_runtime import OnnxRuntime
from polyadic.engines.open_vino import OpenVino
from polyadic.engines.refused_layer import refused_layer
from polyadic.engines.timing import Ratio, Timing, time_interleaved
from polyadic.errors import EngineError
from polyadic.schema import Conditions, NumberFormat

__all__ = [
    "ENGINES",
    "Conditions",
    "Engine",
    "LatencyCache",
    "LatencyModel",
    "Measured",
    "NumberFormat",
    "OnnxRuntime",
    "OpenVino",
    "Prepared",
    "PyTorch",
    "Ratio",
    "Timer",
    "Timing",
    "draw_weights",
    "engine_named",
    "environment",
    "first_line",
    "frozen_weights",
    "input_names",
    "interpolate_time",
    "onnx_bytes",
    "refused_layer",
    "silence",
    "tensors_of",
    "time_in_turns",
    "time_interleaved",
]

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        PyTorch(),
        PyTorch(channels_last=False),
        PyTorch(compiled=True),
        OnnxRuntime(),
        OpenVino(),
        OnnxRuntime(tensorrt=True),
    )
}
"""What networks can be run on, in the order in which tables show them."""


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: there is none.
    """
    if name not in ENGINES:
        raise EngineError(f"an engine is one of {', '.join(ENGINES)}; got {name!r}")
    return ENGINES[name]
