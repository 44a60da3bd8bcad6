"""What one pass of a network takes: one tensor, several by position, or several by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""``model(x)``, ``model(*inputs)`` or ``model(**inputs)``. A tensor as long as the first one holds a row per sample."""

Value = TypeVar("Value")


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """What ``model`` returns for ``inputs``."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors of a tensor, a list, a tuple or a dict, and of those in it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)


def sample_count(inputs: object) -> int:
    """How many samples a batch holds: the length of its first tensor that has axes; 1 where there is none."""
    return next((len(tensor) for tensor in tensors_in(inputs) if tensor.dim()), 1)


def sample_shapes(inputs: object) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors, without the axis of the samples."""
    count = sample_count(inputs)
    return tuple(tuple(t.shape[1:] if t.dim() and len(t) == count else t.shape) for t in tensors_in(inputs))


def change_tensors(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    """The same with every tensor in it changed; whatever else is in it as it is."""
    return _changed(value, change)  # type: ignore[no-any-return]


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_changed(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(_changed(item, change) for item in value)
    return value


def on_device(value: Value, device: torch.device) -> Value:
    """The same with every tensor in it on ``device``."""
    return change_tensors(value, lambda tensor: tensor.to(device))


def first_samples(inputs: Value, count: int) -> Value:
    """The first ``count`` samples of a batch."""
    there = sample_count(inputs)
    return change_tensors(inputs, lambda t: t[:count] if t.dim() and len(t) == there else t)


def concatenate(batches: Sequence[Inputs]) -> Inputs:
    """Batches of the same kind as one; what holds no row per sample is that of the first.

    Raises:
        LayerError: they are of several kinds or sizes.
    """
    if len(batches) == 1:
        return batches[0]
    kinds = {(type(batch), len(list(tensors_in(batch)))) for batch in batches}
    sizes = set(map(sample_shapes, batches))
    if len(kinds) > 1 or len(sizes) > 1:
        raise LayerError(
            f"batches that are put together hold samples of one size; got {' and '.join(map(str, sorted(sizes)))}: "
            "crop or pad them"
        )
    counts, joined = [sample_count(batch) for batch in batches], []
    for column in zip(*(tensors_in(batch) for batch in batches), strict=True):
        by_sample = all(t.dim() and len(t) == count for t, count in zip(column, counts, strict=True))
        joined.append(torch.cat(column) if by_sample else column[0])
    whole = iter(joined)
    return change_tensors(batches[0], lambda _: next(whole))


def as_arguments(model: nn.Module, inputs: Inputs) -> tuple[Any, ...]:
    """``inputs`` by position, in the order of the forward's parameters, for whoever cannot pass names.

    Raises:
        LayerError: the forward cannot be called so.
    """
    if not isinstance(inputs, Mapping):
        return inputs if isinstance(inputs, tuple) else (inputs,)
    bound = inspect.signature(model.forward).bind(**inputs)
    bound.apply_defaults()
    if bound.kwargs:
        raise LayerError(
            f"engines take inputs by position; {type(model).__name__}.forward takes {', '.join(bound.kwargs)} by name "
            "alone: wrap the network in a module that passes them on"
        )
    arguments = list(bound.args)
    while arguments and arguments[-1] is None:
        arguments.pop()
    if not all(isinstance(argument, Tensor) for argument in arguments):
        raise LayerError(
            f"engines take tensors; between those that {type(model).__name__}.forward was given there is another "
            "argument: wrap the network in a module that takes tensors alone"
        )
    return tuple(arguments)
