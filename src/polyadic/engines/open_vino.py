"""OpenVINO on the processor, in float32 or in the number format that it prefers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from polyadic.engines.engine import Engine, Prepared, arrays_of, installed_version
from polyadic.engines.onnx_graph import onnx_bytes
from polyadic.errors import install_hint
from polyadic.schema import Conditions, NumberFormat

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


@final
@dataclass(frozen=True)
class OpenVino(Engine):
    """OpenVINO's processor plug-in, with one stream: the shortest time of one pass."""

    name: ClassVar[str] = "openvino"
    layout: ClassVar[str] = "its own"  # it blocks channels as it likes

    @property
    def version(self) -> str:
        """Of the package."""
        return installed_version("openvino")

    def missing(self) -> str | None:
        """OpenVINO or the package of torch's ONNX exporter."""
        if find_spec("openvino") is None or find_spec("onnxscript") is None:
            return f"OpenVINO is not installed: {install_hint('openvino')}"
        return None

    def refuses(self, conditions: Conditions) -> str | None:
        """Devices and number formats that its processor plug-in lacks."""
        if conditions.device != "cpu":
            return f"it is used on the processor here, not on {conditions.device}"
        if conditions.precision not in _HINTS:
            return f"it runs {' or '.join(_HINTS)} on the processor, not {conditions.precision}"
        if conditions.precision == "bfloat16" and not _has_bfloat16():
            return "this processor has no bfloat16 in hardware"
        return None

    def usual_precisions(self, device: str) -> tuple[NumberFormat, ...]:
        """Float32, and the format that it takes by itself on processors that have it."""
        return ("float32", "bfloat16") if self.missing() is None and _has_bfloat16() else ("float32",)

    def _prepare(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        return self.prepare_graph(onnx_bytes(model, example), example, conditions)

    def prepare_graph(
        self, graph: bytes, example: tuple[Tensor, ...], conditions: Conditions, *, weights: bytes | None = None
    ) -> Prepared:
        """A graph that is written already, made ready with the example's shapes fixed.

        It is ONNX, or OpenVINO's own: then ``graph`` is the content of the .xml file, ``weights`` that of the .bin.
        """
        import openvino

        core = openvino.Core()
        read = core.read_model(graph) if weights is None else core.read_model(graph, weights)
        read.reshape({index: list(tensor.shape) for index, tensor in enumerate(example)})
        return _Prepared(core.compile_model(read, "CPU", plugin_properties(conditions)), example)


def plugin_properties(conditions: Conditions) -> dict[str, Any]:
    """The properties of a compiled model under ``conditions``."""
    return {
        "INFERENCE_NUM_THREADS": conditions.threads,
        "INFERENCE_PRECISION_HINT": _HINTS[conditions.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }


class _Prepared(Prepared):
    def __init__(self, compiled: Any, example: tuple[Tensor, ...]) -> None:
        self._request = compiled.create_infer_request()
        self._example = arrays_of(example)

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self._request.infer(arrays_of(inputs), share_inputs=True)
        return tuple(torch.from_numpy(array.copy()).float() for array in outputs.values())

    def once(self) -> None:
        self._request.infer(self._example, share_inputs=True, share_outputs=True)


def _has_bfloat16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
