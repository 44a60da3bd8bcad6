"""A network on its way into files: what it is traced with, what its outputs are called, and its ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.engines import input_names, onnx_bytes


@dataclass(frozen=True)
class ExportSource:
    """A network that is written to one or more files.

    Attributes:
        network: in evaluation mode, float32, on the CPU.
        example: its inputs, two samples; what they hold may end up in a file, so they are never somebody's data.
        notes: texts by name that the files keep.
    """

    network: nn.Module
    example: tuple[Tensor, ...]
    notes: Mapping[str, str]

    @cached_property
    def output_names(self) -> list[str]:
        """What outputs are called in the files that have names for them."""
        taken = set(input_names(len(self.example)))
        names = output_names(run_network(self.network, self.example))
        return [f"{name}_output" if name in taken else name for name in names]

    @cached_property
    def onnx_graph(self) -> bytes:
        """The ONNX graph with a free batch, named outputs and the notes as metadata.

        Torch's exporter writes into every node the lines of source, with their paths, that it came from. They are of
        no use to whoever runs the file and are taken out.
        """
        import onnx

        model = onnx.load_from_string(onnx_bytes(self.network, self.example, dynamic_batch=True))
        _name_outputs(model.graph, self.output_names)
        for part in _parts(model.graph):
            del part.metadata_props[:]
            part.ClearField("doc_string")
        model.producer_name = "polyadic"
        model.producer_version = self.notes.get("polyadic.version", "")
        onnx.helper.set_model_props(model, dict(self.notes))
        onnx.checker.check_model(model)
        written: bytes = model.SerializeToString()
        return written


def run_network(network: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    """What ``network`` returns, without gradients."""
    with torch.no_grad():
        return network(*inputs)


def output_names(output: object, name: str = "") -> list[str]:
    """Names of a network's outputs in the order of :func:`polyadic.engines.tensors_of`.

    One tensor is ``output``; several are ``output_0``, ``output_1``, ...; what stands in a mapping has its key for a
    name, and what stands deeper has the names on its way, as in ``features.0``.
    """
    if isinstance(output, Tensor):
        return [name or "output"]
    if isinstance(output, Mapping):
        begin = f"{name}." if name else ""
        return [found for key, value in output.items() for found in output_names(value, f"{begin}{key}")]
    if isinstance(output, Sequence) and not isinstance(output, str):
        begin = f"{name}." if name else "output_"
        return [found for n, value in enumerate(output) for found in output_names(value, f"{begin}{n}")]
    return []


def _parts(graph: Any) -> list[Any]:
    return [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]


def _name_outputs(graph: Any, names: list[str]) -> None:
    """Call the outputs of an ONNX graph ``names``; what is called so inside of it gets another name.

    The exporter's own option for this gives one name to two values where they meet.
    """
    renamed = {name: f"{name}_inside" for name in names}
    renamed |= {output.name: name for output, name in zip(graph.output, names, strict=True)}
    _rename(graph, renamed)


def _rename(graph: Any, renamed: Mapping[str, str]) -> None:
    for part in (*graph.output, *graph.value_info, *graph.initializer):
        part.name = renamed.get(part.name, part.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, renamed)
