"""A network as a program of ``torch.export``: plain aten operators that torch alone loads and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import final

import torch

from polyadic.engines import tensors_of
from polyadic.errors import EngineError
from polyadic.export.export_source import ExportSource, answered
from polyadic.export.target import Run, Target

NOTES = "polyadic.json"


@final
class ProgramFile(Target):
    """``model.pt2``."""

    @property
    def name(self) -> str:
        """``pt2``."""
        return "pt2"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """One file."""
        return (".pt2",)

    @property
    def engine(self) -> str:
        """Torch and its version."""
        return f"PyTorch {torch.__version__}"

    def missing(self) -> str | None:
        """Nothing: the library is built on torch."""
        return None

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

    def opened(self, path: Path) -> Run:
        """In torch, as anybody would load it."""
        network = torch.export.load(path).module()
        return lambda inputs: tuple(tensor.float() for tensor in tensors_of(answered(network, inputs)))


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
