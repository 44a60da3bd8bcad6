"""torchao's quantization of exported graphs (PT2E) for x86 processors.

What it gives is a graph of torch operations with 8-bit constants. It runs in 8 bits only where inductor compiles it,
which takes a C++ compiler on the machine that runs it; torch alone carries it out in float32 with rounded numbers,
slower than the float network. Accuracy is that of 8 bits either way.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, final

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, Prepared, frozen_weights, silence
from polyadic.errors import install_hint
from polyadic.quantization.quantizer import Artefact, Quantizer, QuantizerSession, Recipe
from polyadic.surgery import copy_model

_ENDING = ".pt2"
_TALKERS = ("torchao", "torch.utils._pytree")


@final
@dataclass(frozen=True)
class TorchAOQuantizer(Quantizer):
    """``torchao.quantization.pt2e`` with the quantizer of inductor for x86.

    Attributes:
        compiled: run what it gives through inductor; uncompiled it computes in float32 with rounded numbers.
    """

    compiled: bool = True

    name = "torchao"
    methods = ("histogram",)
    keeps_ends = False  # batch norms are folded after layers were chosen, and the names are gone by then
    corrects = False  # it never does

    def missing(self) -> str | None:
        """Torchao, or the compiler that inductor calls."""
        if find_spec("torchao") is None:
            return f"torchao is not installed: {install_hint('torchao')}"
        if self.compiled and shutil.which("g++") is None and shutil.which("clang++") is None:
            return "what torchao gives is compiled by a C++ compiler, and none is installed: apt-get install g++"
        return None

    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> QuantizerSession:
        return _Session(network, batches)

    def prepare(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """The graph, compiled with its constants frozen where the quantizer says so."""
        with silence(*_TALKERS):
            module = torch.export.load(io.BytesIO(artefact.files[_ENDING])).module()
            return _Prepared(module, example, conditions, compiled=self.compiled)


class _Session(QuantizerSession):
    def __init__(self, network: nn.Module, batches: Sequence[Tensor]) -> None:
        self._network = copy_model(network).eval().requires_grad_(False)
        self._batches = batches

    def write_float(self) -> Artefact:
        return self._written(self._network)

    def quantize(self, recipe: Recipe) -> Artefact:
        with silence(*_TALKERS), torch.no_grad():
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
            from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

            quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
            watched = prepare_pt2e(self._exported(self._network).module(), quantizer)
            for batch in self._batches:
                watched(batch)
            return self._written(convert_pt2e(watched))

    def _exported(self, network: nn.Module) -> Any:
        return torch.export.export(network, (self._batches[0][:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))

    def _written(self, network: nn.Module) -> Artefact:
        file = io.BytesIO()
        with silence(*_TALKERS):
            torch.export.save(self._exported(network), file)
        return Artefact({_ENDING: file.getvalue()})


class _Prepared(Prepared):
    def __init__(self, module: nn.Module, example: Tensor, conditions: Conditions, *, compiled: bool) -> None:
        self._threads = conditions.threads
        self._example = self._fed(example)
        with frozen_weights():  # tracing asks for it, too, and does not hear of the options of torch.compile
            self._run = torch.compile(module, dynamic=False) if compiled else module
            self.once()

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self._pass(self._fed(inputs[0])).float(),)

    def once(self) -> None:
        self._pass(self._example)

    def _fed(self, x: Tensor) -> Tensor:
        """Of one layout and made in one mode: anything else is compiled anew, and not in 8 bits."""
        with torch.inference_mode(False), torch.no_grad():
            return torch.empty(x.shape, dtype=x.dtype).copy_(x)

    def _pass(self, x: Tensor) -> Tensor:
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(False), torch.no_grad():
            output: Tensor = self._run(x)
            return output
