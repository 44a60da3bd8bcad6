"""A network as an ONNX file, checked with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor

from polyadic.engines import OnnxRuntime
from polyadic.export.export_source import ExportSource
from polyadic.export.target import Run, Target


@final
class OnnxFile(Target):
    """``model.onnx``: one file with the weights in it."""

    @property
    def name(self) -> str:
        """``onnx``."""
        return "onnx"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """One file."""
        return (".onnx",)

    @property
    def engine(self) -> str:
        """ONNX Runtime and its version."""
        return f"ONNX Runtime {OnnxRuntime().version}"

    def missing(self) -> str | None:
        """As of the engine."""
        return OnnxRuntime().missing()

    def write(self, source: ExportSource, path: Path) -> None:
        """Write the graph."""
        path.write_bytes(source.onnx_graph)

    def opened(self, path: Path) -> Run:
        """In ONNX Runtime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]

        def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            arrays = (tensor.numpy() for tensor in inputs)
            outputs = session.run(None, dict(zip(names, arrays, strict=True)))
            return tuple(torch.from_numpy(array).float() for array in outputs)

        return run
