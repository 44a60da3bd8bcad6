"""A trained network in 8 bits: chains balanced, ranges from training images, recipes chosen on held-out ones."""

from polyadic.quantization.balance import balance_chains
from polyadic.quantization.choose import RecipeTrial
from polyadic.quantization.judges import Verdict
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.quantize import (
    QUANTIZERS,
    Quantized,
    Row,
    SampleRow,
    measure_artefacts,
    measure_on_samples,
    quantize,
    quantizer_named,
    time_artefacts,
)
from polyadic.quantization.quantizer import Artefact, QuantizeOptions, Quantizer, QuantizerSession, Recipe, weight_bits
from polyadic.quantization.slim import slim_graph, slim_ir
from polyadic.quantization.torch_ao import TorchAOQuantizer

__all__ = [
    "QUANTIZERS",
    "Artefact",
    "OnnxRuntimeQuantizer",
    "OpenVinoQuantizer",
    "QuantizeOptions",
    "Quantized",
    "Quantizer",
    "QuantizerSession",
    "Recipe",
    "RecipeTrial",
    "Row",
    "SampleRow",
    "TorchAOQuantizer",
    "Verdict",
    "balance_chains",
    "measure_artefacts",
    "measure_on_samples",
    "quantize",
    "quantizer_named",
    "slim_graph",
    "slim_ir",
    "time_artefacts",
    "weight_bits",
]
