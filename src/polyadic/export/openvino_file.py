"""A network as a pair of files of OpenVINO, checked with OpenVINO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, OpenVino
from polyadic.engines.open_vino import options_of
from polyadic.export.export_source import ExportSource
from polyadic.export.target import Run, Target
from polyadic.layers import TTLayer
from polyadic.surgery import copy_model


@final
class OpenVinoFile(Target):
    """``model.xml``, the operations, and ``model.bin``, the weights."""

    @property
    def name(self) -> str:
        """``openvino``."""
        return "openvino"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Two files; the first names the second by its own name."""
        return (".xml", ".bin")

    @property
    def engine(self) -> str:
        """OpenVINO and its version."""
        return f"OpenVINO {OpenVino().version}"

    def missing(self) -> str | None:
        """As of the engine."""
        return OpenVino().missing()

    def write(self, source: ExportSource, path: Path) -> None:
        """Write both files by way of the ONNX graph, the weights in float32; the notes stand under ``rt_info``."""
        import openvino

        model = openvino.Core().read_model(_without_shuffles(source).onnx_graph)
        for key, value in source.notes.items():
            model.set_rt_info(value, key.split(".", 1))
        openvino.save_model(model, str(path), compress_to_fp16=False)  # it rounds weights to half precision unasked

    def opened(self, path: Path) -> Run:
        """In OpenVINO, in float32 also where it would choose bfloat16."""
        import openvino

        request = openvino.Core().compile_model(str(path), "CPU", options_of(Conditions())).create_infer_request()

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
