"""Engines: a network made ready to run on one of them, and times that can be compared."""

from polyadic.engines.conditions import Conditions, NumberFormat
from polyadic.engines.eager import PyTorch
from polyadic.engines.engine import Engine, Prepared, tensors_of
from polyadic.engines.onnx_graph import input_names, onnx_bytes
from polyadic.engines.onnx_runtime import OnnxRuntime
from polyadic.engines.open_vino import OpenVino
from polyadic.engines.registry import ENGINES, engine_named
from polyadic.engines.timing import Ratio, Timing, interleaved

__all__ = [
    "ENGINES",
    "Conditions",
    "Engine",
    "NumberFormat",
    "OnnxRuntime",
    "OpenVino",
    "Prepared",
    "PyTorch",
    "Ratio",
    "Timing",
    "engine_named",
    "input_names",
    "interleaved",
    "onnx_bytes",
    "tensors_of",
]
