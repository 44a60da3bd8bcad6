"""ONNX Runtime's own static quantizer: weights int8 for each channel, activations uint8, written as QDQ."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from polyadic.engines import Conditions, OnnxRuntime, Prepared, onnx_bytes, silence
from polyadic.errors import install_hint
from polyadic.quantization.bias_correction import correct_biases
from polyadic.quantization.quantizer import (
    Artefact,
    Quantizer,
    QuantizerSession,
    Recipe,
    layers_in_float,
    weight_bits,
)
from polyadic.quantization.slim import slim_graph

# ranges are extremes, those of all but a hundred-thousandth of the values, or those of the least relative entropy
_METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ENDING = ".onnx"
_MEANS = 128  # images that means are taken from; those of channels settle long before ranges do


@final
@dataclass(frozen=True)
class OnnxRuntimeQuantizer(Quantizer):
    """``onnxruntime.quantization.quantize_static``; the exporter has folded batch norms by then."""

    name = "onnxruntime"
    methods = tuple(_METHODS)
    keeps_ends = True
    corrects = True  # by our own correction; ONNX Runtime has none

    def missing(self) -> str | None:
        """ONNX Runtime, ONNX, or the exporter's package."""
        if any(find_spec(package) is None for package in ("onnx", "onnxruntime", "onnxscript")):
            return f"ONNX Runtime and ONNX are not installed: {install_hint('onnx')}"
        return None

    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> QuantizerSession:
        return _Session(onnx_bytes(network, (batches[0][:2],), dynamic_batch=True), batches)

    def prepare(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """A session over the graph."""
        return OnnxRuntime().prepare_graph(artefact.files[_ENDING], (example,), conditions)


class _Session(QuantizerSession):
    def __init__(self, graph: bytes, batches: Sequence[Tensor]) -> None:
        self._graph = graph
        self._batches = batches
        self._ranges: dict[str, bytes] = {}  # by method: a pass over all batches is most of the time

    def write_float(self) -> Artefact:
        return Artefact({_ENDING: slim_graph(self._graph)})

    def quantize(self, recipe: Recipe) -> Artefact:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        with tempfile.TemporaryDirectory() as folder, silence(""):
            source, target, ranges = (Path(folder) / name for name in ("float.onnx", "int8.onnx", "ranges.json"))
            source.write_bytes(self._graph)
            if recipe.method in self._ranges:
                ranges.write_bytes(self._ranges[recipe.method])
            quantize_static(
                source,
                target,
                _Reader(self._batches),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=weight_bits() < 8,
                nodes_to_exclude=self._excluded(recipe),
                calibrate_method=getattr(CalibrationMethod, _METHODS[recipe.method]),
                extra_options={"CalibStridedMinMax": 1},  # one batch after the other, not all of them in memory
                calibration_cache_path=ranges,
            )
            self._ranges[recipe.method] = ranges.read_bytes()
            rounded = target.read_bytes()
        if recipe.corrected:
            few = self._batches[: max(1, _MEANS // len(self._batches[0]))]
            rounded = correct_biases(rounded, self._graph, few)
        return Artefact({_ENDING: slim_graph(rounded)})

    def _excluded(self, recipe: Recipe) -> list[str]:
        import onnx

        layers = [node.name for node in onnx.load_from_string(self._graph).graph.node if node.op_type in _LAYERS]
        return layers_in_float(layers, recipe)


class _Reader:
    """The batches in the form in which the quantizer asks for them."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self._batches = batches
        self._left = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._left, None)
        return None if batch is None else {"input": batch.numpy()}

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def __len__(self) -> int:
        return len(self._batches)
