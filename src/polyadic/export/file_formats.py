"""The formats of files that other programs run: ONNX, OpenVINO and programs of torch.export."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, Engine, OnnxRuntime, OpenVino, PyTorch, tensors_of
from polyadic.engines.open_vino import plugin_properties
from polyadic.errors import EngineError
from polyadic.export.export_source import ExportSource, run_network
from polyadic.layers import TTLayer
from polyadic.surgery import copy_model

NOTES = "polyadic.json"
"""The extra file of a torch program that holds its notes."""

Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""A pass through a file that was opened: inputs to outputs, float32 on the CPU."""


class FileFormat(ABC):
    """One format of files that hold a network and the order of its operations.

    Attributes:
        name: on the command line.
        suffixes: of its files; the first is the one that is named, the others lie beside it.
        program: what runs the file here.
        runtime: the engine that is built on that program.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    program: ClassVar[str]
    runtime: ClassVar[Engine]

    @property
    def engine(self) -> str:
        """What runs the file here, with its version."""
        return f"{self.program} {self.runtime.version}"

    def missing(self) -> str | None:
        """What is not installed, with the command that installs it; None where files can be written and run."""
        return self.runtime.missing()

    @abstractmethod
    def write(self, source: ExportSource, path: Path) -> None:
        """Write a network to ``path``, which has the first suffix, with the first dimension of all inputs free."""

    @abstractmethod
    def open(self, path: Path) -> Run:
        """The file at ``path``, ready to run on one thread of the processor in float32."""

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files that belong to ``path``."""
        return tuple(path.with_suffix(suffix) for suffix in self.suffixes)


@final
class OnnxFile(FileFormat):
    """``model.onnx``: one file with the weights in it."""

    name = "onnx"
    suffixes = (".onnx",)
    program = "ONNX Runtime"
    runtime = OnnxRuntime()

    def write(self, source: ExportSource, path: Path) -> None:
        """Write the graph."""
        path.write_bytes(source.onnx_graph)

    def open(self, path: Path) -> Run:
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


@final
class OpenVinoFile(FileFormat):
    """``model.xml``, the operations, and ``model.bin``, the weights."""

    name = "openvino"
    suffixes = (".xml", ".bin")  # the first names the second by its own name
    program = "OpenVINO"
    runtime = OpenVino()

    def write(self, source: ExportSource, path: Path) -> None:
        """Write both files by way of the ONNX graph, the weights in float32; the notes stand under ``rt_info``."""
        import openvino

        model = openvino.Core().read_model(_without_shuffles(source).onnx_graph)
        for key, value in source.notes.items():
            model.set_rt_info(value, key.split(".", 1))
        openvino.save_model(model, str(path), compress_to_fp16=False)  # it rounds weights to half precision unasked

    def open(self, path: Path) -> Run:
        """In OpenVINO, in float32 also where it would choose bfloat16."""
        import openvino

        request = (
            openvino.Core().compile_model(str(path), "CPU", plugin_properties(Conditions())).create_infer_request()
        )

        def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            outputs = request.infer([tensor.numpy() for tensor in inputs])
            return tuple(torch.from_numpy(array.copy()).float() for array in outputs.to_tuple())

        return run


def _without_shuffles(source: ExportSource) -> ExportSource:
    """The network with convolutions by tensor trains written densely; the file still holds their cores.

    OpenVINO takes the permutations between cores for a shuffle of channels, asks how many samples there are, and fails
    where the batch is free (2026.4, ShuffleChannelsFusion).
    """

    def by_cores(network: nn.Module) -> list[TTLayer]:
        trains = (module for module in network.modules() if isinstance(module, TTLayer))
        return [layer for layer in trains if layer.spec.axes and layer.spec.way != "dense"]

    if not by_cores(source.network):
        return source
    network = copy_model(source.network)
    for layer in by_cores(network):
        layer.run_in("dense")
    return replace(source, network=network)


@final
class ProgramFile(FileFormat):
    """``model.pt2``."""

    name = "pt2"
    suffixes = (".pt2",)
    program = "PyTorch"
    runtime = PyTorch()

    def write(self, source: ExportSource, path: Path) -> None:
        """Write the program, with the notes as the extra file ``polyadic.json``.

        Raises:
            EngineError: the program calls something other than torch's own operators.
        """
        shapes = tuple({0: torch.export.Dim("batch")} for _ in source.example)
        with torch.no_grad():
            program = torch.export.export(source.network, source.example, dynamic_shapes=shapes)
        foreign = _foreign(program)
        if foreign:
            raise EngineError(
                f"a .pt2 file holds torch's own operators, so that torch alone runs it; got {', '.join(foreign)}: "
                "write those layers in terms of torch's functions"
            )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # lines of source with their paths
        torch.export.save(program, path, extra_files={NOTES: json.dumps(dict(source.notes))})

    def open(self, path: Path) -> Run:
        """In torch, as anybody would load it."""
        network = torch.export.load(path).module()
        return lambda inputs: tuple(tensor.float() for tensor in tensors_of(run_network(network, inputs)))


def _foreign(program: torch.export.ExportedProgram) -> list[str]:
    """Operators of other libraries than torch, which would have to be there when the file is loaded."""
    return sorted(
        {
            str(node.target)
            for module in program.graph_module.modules()
            if isinstance(module, torch.fx.GraphModule)
            for node in module.graph.nodes
            if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in ("aten", "prims", "prim")
        }
    )


FILE_FORMATS: dict[str, FileFormat] = {kind.name: kind for kind in (OnnxFile(), OpenVinoFile(), ProgramFile())}
"""Formats of files by name."""
