"""A trained network in 8 bits: chains balanced, ranges from training images, recipes chosen on held-out ones."""

from polyadic.quantization.balance import balance_chains
from polyadic.quantization.choose import RecipeTrial
from polyadic.quantization.judge import Verdict
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.options import QuantizeOptions, Recipe
from polyadic.quantization.quantize import Quantized, Row, measure_artefacts, quantize, time_artefacts
from polyadic.quantization.quantizer import Artefact, Bench, Quantizer
from polyadic.quantization.registry import QUANTIZERS, quantizer_named
from polyadic.quantization.slim_graph import slim_graph
from polyadic.quantization.slim_ir import slim_ir
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
    "RecipeTrial",
    "Row",
    "TorchAOQuantizer",
    "Verdict",
    "balance_chains",
    "measure_artefacts",
    "quantize",
    "quantizer_named",
    "slim_graph",
    "slim_ir",
    "time_artefacts",
]
