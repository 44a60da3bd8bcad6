"""NNCF's quantization after training for OpenVINO, with its correction of biases (Nagel et al., ICCV 2019)."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from polyadic.engines import Conditions, OpenVino, Prepared, onnx_bytes
from polyadic.quantization.options import Recipe
from polyadic.quantization.quantizer import Artefact, Bench, Quantizer
from polyadic.quantization.slim_ir import slim_ir

_METHODS = {"mixed": "MIXED", "performance": "PERFORMANCE"}
_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_GRAPH, _WEIGHTS = ".xml", ".bin"


@final
@dataclass(frozen=True)
class OpenVinoQuantizer(Quantizer):
    """``nncf.quantize`` of OpenVINO's own graph."""

    @property
    def name(self) -> str:
        """``openvino``."""
        return "openvino"

    @property
    def methods(self) -> Sequence[str]:
        """Activations from their smallest to their largest value, or symmetric about zero."""
        return tuple(_METHODS)

    @property
    def keeps_ends(self) -> bool:
        """Yes."""
        return True

    @property
    def corrects(self) -> bool:
        """No: NNCF always does."""
        return False

    def missing(self) -> str | None:
        """OpenVINO, NNCF, or the exporter's package."""
        if any(find_spec(package) is None for package in ("openvino", "nncf", "onnx", "onnxscript")):
            return "OpenVINO and NNCF are not installed: pip install 'polyadic[openvino,quantization]'"
        return None

    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> Bench:
        return _Bench(onnx_bytes(network, (batches[0][:2],), dynamic_batch=True), batches)

    def prepared(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """The compiled graph."""
        weights = artefact.files[_WEIGHTS]
        return OpenVino().prepared_graph(artefact.files[_GRAPH], (example,), conditions, weights=weights)


class _Bench(Bench):
    def __init__(self, graph: bytes, batches: Sequence[Tensor]) -> None:
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(graph)
            self._model = openvino.convert_model(path)  # folds what reading the graph alone leaves, such as shapes
        self._batches = [batch.numpy() for batch in batches]

    def plain(self) -> Artefact:
        return _written(self._model.clone())

    def quantized(self, recipe: Recipe) -> Artefact:
        with _quietly():
            import nncf

            quantized = nncf.quantize(
                self._model.clone(),
                nncf.Dataset(self._batches),
                preset=nncf.QuantizationPreset[_METHODS[recipe.method]],
                subset_size=len(self._batches),
                ignored_scope=nncf.IgnoredScope(names=_excluded(self._model, recipe)),
            )
            return _written(quantized)


def _excluded(model: Any, recipe: Recipe) -> list[str]:
    layers = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS]
    ends = {"first": layers[0], "last": layers[-1]} if layers else {}
    return [ends[end] for end in recipe.kept if end in ends]


def _written(model: Any) -> Artefact:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return Artefact({_GRAPH: slim_ir(path.read_bytes()), _WEIGHTS: path.with_suffix(".bin").read_bytes()})


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """NNCF reports its steps and draws bars; neither is for our users."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
