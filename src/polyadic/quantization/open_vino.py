"""NNCF's quantization after training for OpenVINO, with its correction of biases (Nagel et al., ICCV 2019)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from polyadic.engines import Conditions, OpenVino, Prepared, onnx_bytes, silence
from polyadic.errors import install_hint
from polyadic.quantization.quantizer import Artefact, Quantizer, QuantizerSession, Recipe, layers_in_float, weight_bits
from polyadic.quantization.slim import slim_ir

# activations from their smallest to their largest value, or symmetric about zero
_METHODS = {"mixed": "MIXED", "performance": "PERFORMANCE"}
_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_GRAPH, _WEIGHTS = ".xml", ".bin"


@final
@dataclass(frozen=True)
class OpenVinoQuantizer(Quantizer):
    """``nncf.quantize`` of OpenVINO's own graph."""

    name = "openvino"
    methods = tuple(_METHODS)
    keeps_ends = True
    corrects = False  # NNCF always does

    def missing(self) -> str | None:
        """OpenVINO, NNCF, or the exporter's package."""
        if any(find_spec(package) is None for package in ("openvino", "nncf", "onnx", "onnxscript")):
            return f"OpenVINO and NNCF are not installed: {install_hint('openvino,quantization')}"
        return None

    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> QuantizerSession:
        return _Session(onnx_bytes(network, (batches[0][:2],), dynamic_batch=True), batches)

    def prepare(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """The compiled graph."""
        weights = artefact.files[_WEIGHTS]
        return OpenVino().prepare_graph(artefact.files[_GRAPH], (example,), conditions, weights=weights)


class _Session(QuantizerSession):
    def __init__(self, graph: bytes, batches: Sequence[Tensor]) -> None:
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(graph)
            self._model = openvino.convert_model(path)  # folds what reading the graph alone leaves, such as shapes
        self._batches = [batch.numpy() for batch in batches]

    def write_float(self) -> Artefact:
        return _written(self._model.clone())

    def quantize(self, recipe: Recipe) -> Artefact:
        with silence("nncf"):
            import nncf
            from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

            # NNCF's own way to say 7 bits; by itself it does so for the first layers alone
            overflow = OverflowFix.FIRST_LAYER if weight_bits() == 8 else OverflowFix.ENABLE
            quantized = nncf.quantize(
                self._model.clone(),
                nncf.Dataset(self._batches),
                preset=nncf.QuantizationPreset[_METHODS[recipe.method]],
                subset_size=len(self._batches),
                ignored_scope=nncf.IgnoredScope(names=_excluded(self._model, recipe)),
                advanced_parameters=AdvancedQuantizationParameters(overflow_fix=overflow),
            )
            return _written(quantized)


def _excluded(model: Any, recipe: Recipe) -> list[str]:
    layers = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS]
    return layers_in_float(layers, recipe)


def _written(model: Any) -> Artefact:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return Artefact({_GRAPH: slim_ir(path.read_bytes()), _WEIGHTS: path.with_suffix(".bin").read_bytes()})
