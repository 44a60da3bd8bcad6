"""What comes right after a layer: a batch norm that can take up a bias, an addition that can be repaired.

One traced forward pass tells it, for any model: operations are numbered as they run, and a tensor is known by what it
is, not by name. In a residual block ``relu(x + norm(conv(y)))`` the layer's output meets ``x``, which exists before the
layer runs; a compressed layer can therefore aim at the dense *sum*, and take up what the compressed network has already
lost on the shortcut.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

BatchNorms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass(frozen=True)
class FollowingOps:
    """What follows one layer.

    Attributes:
        norm: name of the batch norm that alone reads the layer's output, channel by channel; None if there is none.
        partner: number of the operation whose result is added to what the layer (and its norm) put out; None if
            nothing is, or if it is computed only after the layer.
        begins: number of the operation at which the layer begins.
    """

    norm: str | None
    partner: int | None
    begins: int


@dataclass
class Numbering(TorchFunctionMode):
    """Numbers the operations of a forward pass that return a tensor; ``seen`` is told of each, with its arguments.

    Inside :meth:`paused` nothing is counted, so a pass in which layers have stand-ins is numbered as one without.
    """

    seen: Callable[[int, str, tuple[Any, ...], Tensor], None]
    count: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and number it."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not self.depth:
            given = (*args, *(kwargs or {}).values())
            self.seen(self.count, getattr(func, "__name__", ""), given, result)
            self.count += 1
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing, and do not look on either: that doubles the time of the small products of a decomposition."""
        with torch._C.DisableTorchFunction():
            yield


@dataclass(frozen=True)
class _Reading:
    """One operation that read a tensor: its number, its result, and the other summand if it was a plain addition."""

    number: int
    result: Tensor
    other: Tensor | None


@dataclass
class _Trace:
    """Who made and who read each tensor, by id; all tensors are kept, so that no two share one."""

    made: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    read: dict[int, list[_Reading]] = field(default_factory=lambda: defaultdict(list))
    runs: dict[str, list[tuple[int, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    norms: dict[int, list[tuple[str, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    channels_last: set[int] = field(default_factory=set)  # outputs whose channels are not those of a batch norm
    kept: list[Tensor] = field(default_factory=list)

    def seen(self, number: int, name: str, given: tuple[Any, ...], result: Tensor) -> None:
        """Note one operation."""
        lists = (item for value in given if isinstance(value, list | tuple) for item in value)
        tensors = [value for value in (*given, *lists) if isinstance(value, Tensor)]
        sums = name in _ADDITIONS and len(given) == len(tensors) == 2 and tensors[0].shape == tensors[1].shape
        for n, tensor in enumerate(tensors):
            self.read[id(tensor)].append(_Reading(number, result, tensors[1 - n] if sums else None))
        self.made[id(result)].append(number)
        self.kept += [*tensors, result]

    def surroundings(self, names: Iterable[str]) -> dict[str, FollowingOps]:
        """What follows each layer that ran once."""
        runs = Counter(norm for found in self.norms.values() for norm, _ in found)
        return {name: self._around(*self.runs[name][0], runs) for name in names if len(self.runs[name]) == 1}

    def _around(self, begins: int, output: Tensor, norm_runs: Counter[str]) -> FollowingOps:
        norm, norms = None, [] if id(output) in self.channels_last else self.norms[id(output)]
        if len(norms) == 1 and len(self.read[id(output)]) == 1 and norm_runs[norms[0][0]] == 1:
            norm, output = norms[0]
        partner, readings = None, self.read[id(output)]
        if readings and readings[0].other is not None and readings[0].other is not output:
            added = readings[0]
            alone = len(readings) == 1 or added.result is output  # added in place: later readers see the sum
            made = [number for number in self.made[id(added.other)] if number < added.number]
            partner = made[-1] if alone and made and made[-1] < begins else None
        return FollowingOps(norm, partner, begins)


def find_following_ops(model: nn.Module, layers: Iterable[str], example: Tensor) -> tuple[dict[str, FollowingOps], int]:
    """What follows each of ``layers`` that runs once on ``example``, and how many numbers the largest tensor has."""
    trace, names = _Trace(), list(layers)
    numbering = Numbering(trace.seen)

    def layer_begins(_: nn.Module, __: object) -> None:
        numbering.depth += 1

    def layer_ends(name: str, layer: nn.Module, _: object, output: Tensor) -> None:
        numbering.depth -= 1
        trace.runs[name].append((numbering.count, output))
        if isinstance(layer, nn.Linear) and output.ndim > 2:
            trace.channels_last.add(id(output))
        trace.kept.append(output)

    def norm_ends(name: str, _: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        trace.norms[id(given[0])].append((name, output))

    with ExitStack() as stack:
        for name in names:
            layer = model.get_submodule(name)
            stack.callback(layer.register_forward_pre_hook(layer_begins).remove)
            stack.callback(layer.register_forward_hook(partial(layer_ends, name)).remove)
        for name, module in model.named_modules():
            if isinstance(module, BatchNorms) and module.running_mean is not None:
                stack.callback(module.register_forward_hook(partial(norm_ends, name)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(numbering)
        model(example)
    return trace.surroundings(names), max(tensor.numel() for tensor in trace.kept)
