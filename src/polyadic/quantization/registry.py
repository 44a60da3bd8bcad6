"""Quantizers by the name of their engine."""

from __future__ import annotations

from polyadic.errors import QuantizationError
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.quantizer import Quantizer
from polyadic.quantization.torch_ao import TorchAOQuantizer

QUANTIZERS: dict[str, Quantizer] = {
    quantizer.name: quantizer for quantizer in (OnnxRuntimeQuantizer(), OpenVinoQuantizer(), TorchAOQuantizer())
}
"""What networks can be quantized by, the usual one first."""


def quantizer_named(name: str) -> Quantizer:
    """The quantizer for the engine of that name.

    Raises:
        QuantizationError: there is none.
    """
    if name not in QUANTIZERS:
        raise QuantizationError(f"networks are quantized for {', '.join(QUANTIZERS)}; got {name!r}")
    return QUANTIZERS[name]
