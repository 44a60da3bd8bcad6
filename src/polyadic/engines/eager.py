"""PyTorch, layer after layer or compiled, in either layout of images."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from polyadic.engines.engine import Engine, Prepared, tensors_of
from polyadic.errors import EngineError
from polyadic.schema import Conditions

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@final
@dataclass(frozen=True)
class PyTorch(Engine):
    """PyTorch itself.

    Attributes:
        channels_last: keep images as NHWC in memory, the faster layout for convolutions on most devices.
        compiled: with ``torch.compile`` and frozen weights, which needs a C++ compiler on the machine.
    """

    channels_last: bool = True
    compiled: bool = False

    @property
    def name(self) -> str:
        """``pytorch``, ``pytorch-nchw``, ``torch-compile``."""
        return ("torch-compile" if self.compiled else "pytorch") + ("" if self.channels_last else "-nchw")

    @property
    def layout(self) -> str:
        """NHWC or NCHW."""
        return "NHWC" if self.channels_last else "NCHW"

    @property
    def takes_layers_alone(self) -> bool:
        """Never: torch's own words name what failed, and to compile layer by layer would take minutes."""
        return False

    def missing(self) -> str | None:
        """Nothing, for the library is built on it, but for the compiler that ``torch.compile`` calls."""
        if self.compiled and shutil.which(_compiler()) is None:
            where = f"CXX names {_compiler()!r}, which is not there" if os.environ.get("CXX") else "none is installed"
            return f"torch.compile needs a C++ compiler, and {where}: apt-get install g++, or set CXX to another one"
        return None

    def refuses(self, conditions: Conditions) -> str | None:
        """CUDA where there is none, and quantized networks, which are not torch's."""
        if conditions.device == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA device: install a CUDA build of torch, or run on cpu"
        if conditions.precision not in _DTYPES:
            return f"it runs {', '.join(_DTYPES)}, not {conditions.precision}"
        return None

    def _prepare(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        network = copy.deepcopy(model).eval().to(conditions.device).requires_grad_(False)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with frozen_weights() if self.compiled else contextlib.nullcontext():
            run = _compile(network) if self.compiled else network
            prepared = _Prepared(run, example, conditions, self.channels_last)
            try:
                prepared.once()  # what fails or compiles does so now
            except Exception as error:
                reason = _compiler_s_failure(str(error)) if self.compiled else None
                if reason is None:
                    raise
                raise EngineError(f"{self.name}: {reason}") from error
        return prepared


@contextlib.contextmanager
def frozen_weights() -> Iterator[None]:
    """Where the compiler takes weights for constants and lays them out once, without warnings of its own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._inductor.config as inductor  # takes seconds to load

        with inductor.patch(freezing=True):
            yield


def _compiler() -> str:
    """The one that torch calls; it looks for no other."""
    return os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")


def _compiler_s_failure(said: str) -> str | None:
    """What to do where torch says that the C++ compiler failed rather than the network; None where it does not."""
    if not any(name in said for name in ("InvalidCxxCompiler", "CppCompileError")):
        return None
    errors = (line.strip() for line in said.splitlines() if "error:" in line)
    first = next(errors, "it does not start")
    return (
        f"torch.compile needs a C++ compiler that works, and {_compiler()!r} does not ({first}): apt-get install g++ "
        "python3-dev, or set CXX to another one"
    )


def _compile(network: nn.Module) -> Callable[..., object]:
    """``network`` compiled apart from all others.

    Torch counts compilations by code object and, after eight of them, goes on uncompiled without an error. Networks of
    one class share the code of ``forward``, so each is called from a function whose code is a copy of its own.
    """

    def run(*inputs: Tensor) -> object:
        return network(*inputs)

    own = types.FunctionType(run.__code__.replace(), run.__globals__, closure=run.__closure__)
    compiled: Callable[..., object] = torch.compile(own, dynamic=False)
    return compiled


class _Prepared(Prepared):
    def __init__(self, run: Any, example: tuple[Tensor, ...], conditions: Conditions, channels_last: bool) -> None:
        self._run = run
        self._conditions = conditions
        self._channels_last = channels_last
        self._example = self._placed(example)

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.float().cpu().contiguous() for tensor in self._pass(self._placed(inputs)))

    def once(self) -> None:
        self._pass(self._example)

    def _pass(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        conditions = self._conditions
        if torch.get_num_threads() != conditions.threads:
            torch.set_num_threads(conditions.threads)
        lower = conditions.precision != "float32"
        cast = torch.autocast(conditions.device, dtype=_DTYPES[conditions.precision], enabled=lower)
        with torch.inference_mode(), cast:
            outputs = tensors_of(self._run(*inputs))
        if conditions.device == "cuda":
            torch.cuda.synchronize()
        return outputs

    def _placed(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        last = self._channels_last
        return tuple(
            tensor.to(
                self._conditions.device,
                memory_format=torch.channels_last if last and tensor.dim() == 4 else torch.contiguous_format,
            )
            for tensor in inputs
        )
