"""Engines by name."""

from __future__ import annotations

from polyadic.engines.eager import PyTorch
from polyadic.engines.engine import Engine
from polyadic.engines.onnx_runtime import OnnxRuntime
from polyadic.engines.open_vino import OpenVino
from polyadic.errors import EngineError

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
