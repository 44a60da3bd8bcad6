"""ONNX Runtime, on the processor, CUDA or TensorRT."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from polyadic.engines.engine import Engine, Prepared, arrays_of, installed_version
from polyadic.engines.onnx_graph import BATCH, onnx_bytes
from polyadic.errors import install_hint
from polyadic.schema import Conditions

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TENSORRT = "TensorrtExecutionProvider"


@final
@dataclass(frozen=True)
class OnnxRuntime(Engine):
    """ONNX Runtime.

    Attributes:
        tensorrt: through TensorRT, where the installed build has that provider.
    """

    tensorrt: bool = False
    layout: ClassVar[str] = "its own"  # it blocks channels as it likes

    @property
    def name(self) -> str:
        """``onnxruntime`` or ``tensorrt``."""
        return "tensorrt" if self.tensorrt else "onnxruntime"

    @property
    def version(self) -> str:
        """Of the installed build."""
        return installed_version("onnxruntime", "onnxruntime-gpu")

    def missing(self) -> str | None:
        """ONNX Runtime, the exporter's package, or the provider of TensorRT."""
        if find_spec("onnxruntime") is None or find_spec("onnxscript") is None:
            return f"ONNX Runtime is not installed: {install_hint('onnx')}"
        if self.tensorrt and _TENSORRT not in _available():
            return "this build of ONNX Runtime has no TensorRT: pip install onnxruntime-gpu tensorrt"
        return None

    def refuses(self, conditions: Conditions) -> str | None:
        """Number formats other than those that the graph is written in, and CUDA without its provider."""
        if self.tensorrt and conditions.device != "cuda":
            return "TensorRT runs on cuda"
        if conditions.precision not in ("float32", "int8") and not self.tensorrt:
            return f"it runs float32, and int8 where a network was quantized, not {conditions.precision}"
        if _PROVIDERS[conditions.device] not in _available():
            return "this build of ONNX Runtime has no CUDA: pip install onnxruntime-gpu"
        return None

    def _prepare(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        prepared = self.prepare_graph(onnx_bytes(model, example), example, conditions)
        prepared.once()  # some layers are refused only when they run
        return prepared

    def prepare_graph(self, graph: bytes, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        """A graph that is written already, made ready."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = conditions.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Else the threads of one session go on spinning while a pass of the next one is timed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_free_dimension_override_by_name(BATCH, conditions.batch)
        providers: list[Any] = [_PROVIDERS[conditions.device]]
        if self.tensorrt:
            half = {"trt_fp16_enable": conditions.precision == "float16"}
            providers = [(_TENSORRT, half), *providers]
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
        return _Prepared(session, example)


class _Prepared(Prepared):
    def __init__(self, session: Any, example: tuple[Tensor, ...]) -> None:
        self._session = session
        self._names = [entry.name for entry in session.get_inputs()]
        self._example = self._fed(example)

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self._session.run(None, self._fed(inputs))
        return tuple(torch.from_numpy(array).float() for array in outputs)

    def once(self) -> None:
        self._session.run(None, self._example)

    def _fed(self, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return dict(zip(self._names, arrays_of(inputs), strict=True))


def _available() -> list[str]:
    import onnxruntime

    names: list[str] = onnxruntime.get_available_providers()
    return names
