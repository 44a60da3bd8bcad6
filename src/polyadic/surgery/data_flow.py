"""Which layer reads which layer's output, and whether it is the only one: one forward pass, watched tensor by tensor.

A symbolic trace would say the same of the models that it can follow. This says it of any model, because it watches the
tensors themselves: functions, shortcuts, hooks and lists of layers are seen as they run. Outputs of watched layers are
known by what they are; every operation of torch that takes one is a reading, also one that only asks for its shape. An
operation that hands its argument on untouched, such as dropout in evaluation mode, is none. What is still alive when
the pass is over is kept or returned by somebody, and counts as read.
"""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polyadic.layers import evaluation_mode
from polyadic.surgery.trace import Inputs, arguments_of

_KEPT = "the model itself, which keeps or returns it"


@dataclass(frozen=True)
class Answer:
    """What one run of a layer put out.

    Attributes:
        axes: of the tensor, batch and channels included.
        dtype: of the tensor.
        layers: the watched layers that read it.
        others: who else did, in words.
    """

    axes: int
    dtype: torch.dtype
    layers: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Flow:
    """The data flow among watched layers.

    Attributes:
        answers: of every layer that ran, one for each run.
        sources: whose output every run of a layer read; None where it was nothing that was watched.
    """

    answers: Mapping[str, tuple[Answer, ...]]
    sources: Mapping[str, tuple[str | None, ...]]

    def dtypes(self, *names: str) -> set[torch.dtype]:
        """The types of numbers that these layers put out."""
        return {answer.dtype for name in names for answer in self.answers[name]}

    def only_reader(self, name: str) -> tuple[str | None, str]:
        """The layer that alone reads what ``name`` puts out in every run; or None, and why there is none."""
        readers = {answer.layers for answer in self.answers[name]}
        others = sorted({other for answer in self.answers[name] for other in answer.others})
        if not others and len(readers) == 1 and len(only := next(iter(readers))) == 1:
            return only[0], ""
        found = [*sorted({repr(reader) for each in readers for reader in each}), *others]
        return None, f"what {name!r} puts out is read by {', '.join(found) or 'nobody'}"


@dataclass(eq=False)
class _Output:
    tensor: Tensor | None
    axes: int
    dtype: torch.dtype
    layers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


@dataclass
class _Watch(TorchFunctionMode):
    """``made`` holds the outputs by the id of their tensor; all are kept, so that no two share one."""

    made: dict[int, _Output] = field(default_factory=dict)
    runs: dict[str, list[_Output]] = field(default_factory=lambda: defaultdict(list))
    sources: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    makers: dict[int, str] = field(default_factory=dict)
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note every watched output that an operation outside the watched layers takes."""
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)
        taken = [(tensor, _version(tensor)) for tensor in tensors_in((args, kwargs)) if id(tensor) in self.made]
        result = func(*args, **kwargs)
        for tensor, version in taken:
            if result is not tensor or version is None or _version(tensor) != version:
                self.made[id(tensor)].others.append(f"the operation {getattr(func, '__name__', func)}")
        return result

    def enter(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a watched layer runs."""
        self.depth += 1
        given = list(tensors_in((args, kwargs)))
        for tensor in given:
            if id(tensor) in self.made:
                self.made[id(tensor)].layers.append(name)
        self.sources[name].append(self.makers.get(id(given[0])) if len(given) == 1 else None)

    def leave(self, name: str, output: object) -> None:
        """After it."""
        self.depth -= 1
        if isinstance(output, Tensor):
            self.runs[name].append(_Output(output, output.ndim, output.dtype))
            self.made[id(output)] = self.runs[name][-1]
            self.makers[id(output)] = name

    def flow(self) -> Flow:
        """What was seen. The tensors are let go first: those that stay alive are held by the model or its caller."""
        held = {output: weakref.ref(output.tensor) for output in self.made.values() if output.tensor is not None}
        for output in held:
            output.tensor = None
        self.made.clear()
        if any(output.layers and reference() is not None for output, reference in held.items()):
            gc.collect()  # a cycle that is merely not collected yet holds nothing
        for output, reference in held.items():
            if reference() is not None:
                output.others.append(_KEPT)
        answers = {
            name: tuple(Answer(out.axes, out.dtype, tuple(out.layers), tuple(out.others)) for out in outputs)
            for name, outputs in self.runs.items()
        }
        return Flow(answers, {name: tuple(found) for name, found in self.sources.items()})


def data_flow(model: nn.Module, example_input: Inputs, layers: Iterable[str]) -> Flow:
    """Who reads what each of ``layers`` puts out, in evaluation mode. A layer that did not run is not in the answer.

    Args:
        model: runs on the example.
        example_input: a batch (N, ...) or a tuple of arguments whose first is one.
        layers: one name for each layer.
    """
    watch = _Watch()
    with ExitStack() as stack:
        for name in layers:
            stack.callback(_watched(watch, name, model.get_submodule(name)))
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(watch)
        answer = model(*arguments_of(example_input))
    flow = watch.flow()
    del answer  # only now: what it holds has to be alive while the outputs are let go
    return flow


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors of a tensor, a list, a tuple or a dict, and of those in it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _watched(watch: _Watch, name: str, layer: nn.Module) -> Callable[[], None]:
    before = layer.register_forward_pre_hook(lambda _, args, kwargs: watch.enter(name, args, kwargs), with_kwargs=True)
    after = layer.register_forward_hook(lambda _, __, output: watch.leave(name, output))

    def remove() -> None:
        before.remove()
        after.remove()

    return remove


def _version(tensor: Tensor) -> int | None:
    """How often the tensor was written to; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version
