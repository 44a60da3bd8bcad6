"""A trained network in 8 bits: chains balanced, ranges from training images, recipes chosen on held-out ones."""

from polyadic.quantization.balance import balanced
from polyadic.quantization.choose import Trial
from polyadic.quantization.judge import Verdict
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.options import QuantizeOptions, Recipe
from polyadic.quantization.quantize import Quantized, Row, measured, quantize, timed
from polyadic.quantization.quantizer import Artefact, Bench, Quantizer
from polyadic.quantization.registry import QUANTIZERS, quantizer_named
from polyadic.quantization.slim_graph import slimmed
from polyadic.quantization.slim_ir import slimmed_ir
from polyadic.quantization.torch_ao import TorchAOQuantizer

__all__ = [
    "QUANTIZERS",
    "Artefact",
    "Bench",
    "OnnxRuntimeQuantizer",
    "OpenVinoQuantizer",
    "QuantizeOptions",
    "Quantized",
    "Quantizer",
    "Recipe",
    "Row",
    "TorchAOQuantizer",
    "Trial",
    "Verdict",
    "balanced",
    "measured",
    "quantize",
    "quantizer_named",
    "slimmed",
    "slimmed_ir",
    "timed",
]
