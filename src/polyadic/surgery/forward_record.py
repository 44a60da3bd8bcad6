"""One forward pass of a model on record: which layers ran, and who made and who read each tensor.

A symbolic trace would say the same of the models that it can follow. This says it of any model, because it watches the
tensors themselves: functions, shortcuts, hooks and lists of layers are seen as they run. A tensor is known by what it
is, not by name, and gets a number. None is held: a record takes no memory from the pass, and what is alive when the
pass is over is held by the model or its caller.
"""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polyadic.errors import LayerError
from polyadic.layers import Inputs, call_model, evaluation_mode, sample_count, tensors_in
from polyadic.surgery.fast_path import unfused_attention

_KEPT = "the model itself, which keeps or returns it"


@dataclass(frozen=True)
class Operation:
    """One function of torch, or one attribute that was asked of a tensor. Tensors stand by their numbers.

    Attributes:
        name: of the function.
        within: the layers that were running, from the outside in.
        reads: the tensors that it took, also those in lists and dicts.
        result: the tensor that it returned; None if it returned something else.
        returned: the type of what it returned.
        is_pair: whether it took two tensors of one shape and nothing else.
        largest: how many numbers the largest of its tensors has; 0 if it is not numbered.
    """

    name: str
    within: tuple[str, ...]
    reads: tuple[int, ...]
    result: int | None
    returned: type
    is_pair: bool
    largest: int


@dataclass(eq=False)
class Run:
    """One run of a module.

    Attributes:
        begins: how many operations were numbered before it.
        shape: of its first argument, if that is a tensor.
        arguments: the names of all arguments, empty for those that were given by position.
        reads: the tensors in them.
        source: the recorded module that made what it read; None if none did, or it read several tensors.
        result: the tensor that it put out.
        axes: of that tensor, batch and channels included.
        dtype: of that tensor.
        size: how many numbers that tensor has.
        layers: the layers that read it.
        read_at: how many operations were numbered when each of these began.
        others: who else did, in words.
    """

    begins: int
    shape: tuple[int, ...] | None
    arguments: tuple[str, ...]
    reads: tuple[int, ...]
    source: str | None
    result: int | None = None
    axes: int = 0
    dtype: torch.dtype | None = None
    size: int = 0
    layers: list[str] = field(default_factory=list)
    read_at: list[int] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Whether the model keeps or returns what the run put out."""
        return _KEPT in self.others


@dataclass(frozen=True)
class ForwardRecord:
    """What one forward pass did.

    Attributes:
        operations: in order.
        runs: of every recorded module that ran, by name, in order.
        samples: how many are in the example, if it is a batch.
        axes: of the example, that of the batch included.
        numbers: of the tensors that were there.
    """

    operations: tuple[Operation, ...]
    runs: Mapping[str, tuple[Run, ...]]
    samples: int
    axes: int
    numbers: TensorNumbers

    @property
    def numbered(self) -> tuple[Operation, ...]:
        """The operations outside of all layers that return a tensor: they are numbered by their places here."""
        return tuple(each for each in self.operations if each.result is not None and not each.within)

    @property
    def largest(self) -> int:
        """How many numbers the largest tensor between the layers has, what they put out included."""
        sizes = [run.size for runs in self.runs.values() for run in runs]
        return max([0, *sizes, *(operation.largest for operation in self.operations)])

    def dtypes(self, *names: str) -> set[torch.dtype]:
        """The types of numbers that these layers put out."""
        return {run.dtype for name in names for run in self.runs[name] if run.dtype is not None}

    def sources(self, name: str) -> tuple[str | None, ...]:
        """The layers whose outputs the runs of ``name`` read, each once; None where a run read anything else."""
        return tuple(dict.fromkeys(run.source for run in self.runs[name]))

    def only_reader(self, name: str) -> tuple[str | None, str]:
        """The layer that alone reads what ``name`` puts out in every run; or None, and why there is none.

        Every operation that takes the tensor is a reader, also one that only asks for its shape. One that hands it on
        untouched, such as dropout in evaluation mode, is none. A tensor that is still alive when the pass is over is
        kept or returned by somebody, and counts as read.
        """
        readers = {tuple(run.layers) for run in self.runs[name]}
        others = sorted({other for run in self.runs[name] for other in run.others})
        if not others and len(readers) == 1 and len(only := next(iter(readers))) == 1:
            return only[0], ""
        found = [*sorted({repr(reader) for each in readers for reader in each}), *others]
        return None, f"what {name!r} puts out is read by {', '.join(found) or 'nobody'}"


def record_forward(
    model: nn.Module, example_input: Inputs, layers: Iterable[str], transparent: Iterable[str] = ()
) -> ForwardRecord:
    """Run ``model`` on the example in evaluation mode, without gradients, and record it.

    Args:
        model: is left as it was.
        example_input: a batch (N, ...), or arguments by position (a tuple) or by name (a dict), the first one such.
        layers: one name for each layer. What happens inside of a layer is the layer's: it has no number, reads nothing.
        transparent: modules whose runs are recorded, and the operations in them like those outside.

    Raises:
        LayerError: the model does not run on the example.
    """
    given = list(tensors_in(example_input))
    recorder = _Recorder()
    with ExitStack() as stack:
        for names, is_layer in ((layers, True), (transparent, False)):
            for name in names:
                module = model.get_submodule(name)
                enter, leave = partial(recorder.enter, name, is_layer), partial(recorder.leave, name, is_layer)
                stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(unfused_attention())
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        try:
            answer = call_model(model, example_input)
        except Exception as error:  # whatever a stranger's forward raises
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in given)
            if not given:
                raise LayerError(
                    "an example input is a batch (N, ...), or arguments by position (a tuple) or by name (a dict); got "
                    f"a {type(example_input).__name__}: of a loader pass one batch's inputs, next(iter(loader))"
                ) from error
            raise LayerError(
                f"finding layers takes one forward pass, and it failed on an example input of shape {shapes}: "
                f"{type(error).__name__}: {error}{_other_dtype(model, given)}"
            ) from error
    recorder.note_what_is_kept()
    del answer  # only now: what it holds has to be alive while that is noted
    runs = {name: tuple(runs) for name, runs in recorder.runs.items()}
    axes = next((tensor.ndim for tensor in given if tensor.ndim), 0)
    return ForwardRecord(tuple(recorder.operations), runs, sample_count(given), axes, recorder.numbers)


class OperationCounter(TorchFunctionMode):
    """Numbers operations as a :class:`ForwardRecord` does; ``seen`` is told the number and the result of each.

    What runs inside :meth:`paused` is not counted, as what runs inside a layer is not: so a pass in which layers have
    other modules in their place is numbered as the recorded one.
    """

    def __init__(self, seen: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.seen = seen
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and number it."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.seen(self.count, result)
            self.count += 1
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing, and do not look on either: that doubles the time of the small products of a decomposition."""
        with torch._C.DisableTorchFunction():
            yield


class TensorNumbers:
    """One number for each tensor. No tensor is held, and unlike an id no number is given twice."""

    def __init__(self) -> None:
        self._number: dict[int, int] = {}  # by id
        self._tensors: list[weakref.ref[Tensor]] = []

    def of(self, tensor: Tensor) -> int:
        """The number of ``tensor``, a new one if it has none."""
        number = self._number.get(id(tensor))
        if number is None or self._tensors[number]() is not tensor:  # the id was that of a tensor which is gone
            number = self._number[id(tensor)] = len(self._tensors)
            self._tensors.append(weakref.ref(tensor))
        return number

    def is_alive(self, number: int) -> bool:
        """Whether anybody holds the tensor."""
        return self._tensors[number]() is not None


class _Recorder(TorchFunctionMode):
    """Builds a record while the pass runs."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.numbers = TensorNumbers()
        self.count = 0
        self.running: list[str] = []  # layers
        self.open: list[Run] = []  # of layers and transparent modules
        self.made: dict[int, tuple[str, Run]] = {}  # the module, and its run, that put a tensor out last

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and note it; outside of layers it reads the outputs of layers, and gets a number."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        given, taken = (*args, *kwargs.values()), list(tensors_in((args, kwargs)))
        reads = tuple(map(self.numbers.of, taken))
        versions = [_version(tensor) if number in self.made else 0 for tensor, number in zip(taken, reads, strict=True)]
        result = func(*args, **kwargs)
        is_tensor, outside = isinstance(result, Tensor), not self.running
        if outside:
            for tensor, number, version in zip(taken, reads, versions, strict=True):
                untouched = result is tensor and version is not None and _version(tensor) == version
                if number in self.made and not untouched:
                    self.made[number][1].others.append(f"the operation {name}")
        counts = is_tensor and outside
        self.operations.append(
            Operation(
                name,
                tuple(self.running),
                reads,
                self.numbers.of(result) if is_tensor else None,
                type(result),
                len(given) == len(taken) == 2 and taken[0].shape == taken[1].shape,
                max(tensor.numel() for tensor in (*taken, result)) if counts else 0,
            )
        )
        self.count += counts
        return result

    def enter(self, name: str, is_layer: bool, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a module runs."""
        with torch._C.DisableTorchFunction():  # looking at tensors is no operation of the model
            reads = tuple(map(self.numbers.of, tensors_in((args, kwargs))))
            x = args[0] if args else next(iter(kwargs.values()), None)
            shape = tuple(x.shape) if isinstance(x, Tensor) else None
        source = self.made[reads[0]][0] if len(reads) == 1 and reads[0] in self.made else None
        self.open.append(Run(self.count, shape, (*[""] * len(args), *kwargs), reads, source))
        self.runs[name].append(self.open[-1])
        if is_layer:
            self.running.append(name)
            for number in reads:
                if number in self.made:
                    self.made[number][1].layers.append(name)
                    self.made[number][1].read_at.append(self.count)

    def leave(self, name: str, is_layer: bool, _: nn.Module, __: object, output: object) -> None:
        """After it."""
        run = self.open.pop()
        if is_layer:
            self.running.pop()
        if isinstance(output, Tensor):
            with torch._C.DisableTorchFunction():
                run.result, run.axes, run.dtype = self.numbers.of(output), output.ndim, output.dtype
                run.size = output.numel()
            self.made[run.result] = (name, run)

    def note_what_is_kept(self) -> None:
        """When the pass is over: whoever still holds what a module put out has read it."""
        if any((run.layers or run.others) and self.numbers.is_alive(number) for number, (_, run) in self.made.items()):
            gc.collect()  # a cycle that is merely not collected yet holds nothing
        for number, (_, run) in self.made.items():
            if self.numbers.is_alive(number):
                run.others.append(_KEPT)


def _version(tensor: Tensor) -> int | None:
    """How often the tensor was written to; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def _other_dtype(model: nn.Module, given: Iterable[Tensor]) -> str:
    """The end of a sentence on a pass that failed, where inputs and weights are different kinds of numbers."""
    weights = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    inputs = {tensor.dtype for tensor in given if tensor.is_floating_point()}
    if not weights or not inputs or weights & inputs:
        return ""
    kinds = [", ".join(sorted(str(kind).removeprefix("torch.") for kind in some)) for some in (weights, inputs)]
    return f": the weights are {kinds[0]} and the input is {kinds[1]}; bring the model, or the input, to the other's"
