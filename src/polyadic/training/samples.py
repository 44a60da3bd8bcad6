"""Samples as people hold them: what yields batches, what of a batch goes into the network, and parts of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from polyadic.errors import DataError, first_words
from polyadic.layers import Inputs, concatenate, device_of, on_device, sample_count, sample_shapes, tensors_in

Samples = Tensor | Iterable[Any] | Callable[[], Iterable[Any]]
"""What yields batches: a DataLoader, a list, a function that begins a generator; or one tensor, which is cut up."""

Forward = Callable[[nn.Module, Any], Any]
"""From a network and a batch to the network's outputs, where the batch does not tell by itself what goes in."""

MOST_BYTES = 2**30
"""Of samples that are kept in memory; what a loader yields beyond is not read."""

ROWS = 32
"""Samples a pass, where one tensor is given in the place of batches."""

ROWS_TOGETHER, NUMBERS_TOGETHER = 250, 2**24
"""Samples, and numbers in them, that are put together for one pass, however the loader has cut them."""

LABELS = ("labels", "label", "target", "targets")
"""Names under which a forward takes what it computes a loss from: they do not go in."""

NO_BATCHES = (
    "yield at least one batch; got none: the loader is empty, or a generator that was used up before (give the "
    "function that begins it)"
)


def sample_inputs(samples: Samples, model: nn.Module, forward: Forward | None = None) -> Iterator[Inputs]:
    """What of each batch goes into the network, for at most 1 GiB of them.

    Args:
        samples: a DataLoader or another iterable of batches, a function that begins a generator, or one tensor.
        model: whose forward says what it takes (:func:`inputs_of`).
        forward: see there.

    Raises:
        DataError: no batches, or one without an input.
    """
    read = 0
    for batch in batches_of(samples, "inputs"):
        inputs = inputs_of(model, batch, forward)
        yield inputs
        read += bytes_of(inputs)
        if read >= MOST_BYTES:
            return
    if not read:
        raise DataError(f"inputs {NO_BATCHES}")


def together(batches: Iterable[Inputs]) -> Iterator[Inputs]:
    """The same samples in batches of up to 250, or 16 million numbers: only those of the commonest size.

    How the layers are fitted then does not depend on how a loader cuts its batches.
    """
    batches = list(batches)
    counts: dict[object, int] = {}
    for batch in batches:
        counts[sample_shapes(batch)] = counts.get(sample_shapes(batch), 0) + sample_count(batch)
    commonest = max(counts, key=lambda shapes: counts[shapes])
    waiting: list[Inputs] = []
    for batch in batches:
        if sample_shapes(batch) != commonest:
            continue
        both = [*waiting, batch]
        numbers = sum(tensor.numel() for one in both for tensor in tensors_in(one))
        if waiting and (sum(map(sample_count, both)) > ROWS_TOGETHER or numbers > NUMBERS_TOGETHER):
            yield concatenate(waiting)
            waiting = []
        waiting.append(batch)
    yield concatenate(waiting)


def batches_of(samples: Samples, name: str) -> Iterable[Any]:
    """What ``samples`` yields.

    Raises:
        DataError: it yields no batches.
    """
    if isinstance(samples, Tensor):
        return torch.split(samples, ROWS) if samples.dim() > 1 else [samples]
    if isinstance(samples, DataLoader):
        return samples
    if isinstance(samples, Dataset):
        raise DataError(
            f"{name} come in batches; got the data set {type(samples).__name__}: pass "
            "DataLoader(dataset, batch_size=32)"
        )
    if isinstance(samples, tuple):
        raise DataError(
            f"{name} are an iterable of batches; got a tuple of {len(samples)}: for inputs x and labels y pass "
            "DataLoader(TensorDataset(x, y), batch_size=32); for one batch of several inputs, a list that holds it"
        )
    if callable(samples):
        samples = samples()
    if isinstance(samples, str | bytes | Mapping | Path) or not isinstance(samples, Iterable):
        raise DataError(
            f"{name} are a DataLoader or another iterable of batches; got {type(samples).__name__}: pass "
            "DataLoader(inputs, batch_size=32)"
        )
    return samples


def inputs_of(model: nn.Module, batch: Any, forward: Forward | None = None) -> Inputs:
    """What of a batch goes into the network, by what its forward asks for.

    * Of a tensor, the batch.
    * Of a tuple or a list, as many of its first items as the forward has parameters without a default; or, if it begins
      with a tuple, a list or a dict, of that.
    * Of a dict, the items that bear the name of a parameter, but for labels; where none does and the forward takes one,
      the only floating-point tensor.

    Args:
        model: the network.
        batch: as the loader gave it.
        forward: the user's own pass. It is begun, and what it calls the network with is what goes in.

    Raises:
        DataError: that cannot be told.
    """
    if forward is not None:
        return _caught(model, batch, forward)
    if isinstance(batch, Tensor):
        return batch
    needed, taken = _parameters(model)
    if isinstance(batch, Mapping):
        return _by_name(batch, needed, taken)
    if isinstance(batch, tuple | list) and batch:
        if len(needed) <= 1:
            return batch[0] if isinstance(batch[0], Tensor) else inputs_of(model, batch[0])
        if isinstance(batch[0], tuple | list | Mapping):
            return inputs_of(model, batch[0])
        if len(batch) < len(needed):
            raise DataError(
                f"{type(model).__name__}.forward takes {', '.join(needed)}; a batch has {len(batch)} of these: give "
                "them in the order of its parameters, or say what goes in with forward=lambda model, batch: model(...)"
            )
        return tuple(batch[: len(needed)])
    _refuse(batch)


def labels_of(model: nn.Module, batch: Any) -> Any:
    """What stands beside the inputs in a batch: the item after them, or under "labels", "label", "targets", "target".

    Raises:
        DataError: nothing does.
    """
    if isinstance(batch, Mapping):
        found = [batch[name] for name in LABELS if name in batch]
    elif isinstance(batch, tuple | list):
        nested = bool(batch) and isinstance(batch[0], tuple | list | Mapping)
        found = list(batch[1 if nested else max(1, len(_parameters(model)[0])) :])
    else:
        found = []
    if not found:
        raise DataError(
            "a metric that is fed with outputs and labels takes batches that hold labels, (inputs, labels) or a dict "
            f"with 'labels'; got {type(batch).__name__} without: pass such batches, or a function metric(model)"
        )
    return found[0]


def _refuse(batch: Any) -> NoReturn:
    advice = "convert it with torch.as_tensor" if hasattr(batch, "__array__") else "convert it"
    raise DataError(
        f"a batch is a tensor, a tuple or list that begins with one, or a dict; got {type(batch).__name__}: {advice}, "
        "or say what goes into the network with forward=lambda model, batch: model(...)"
    )


def _by_name(batch: Mapping[str, Any], needed: list[str], taken: list[str]) -> Inputs:
    named = {key: batch[key] for key in taken if key in batch and (key in needed or key not in LABELS)}
    if named and all(name in named for name in needed):
        return next(iter(named.values())) if len(named) == 1 and [*named] == taken[:1] else named
    inputs = [value for value in batch.values() if isinstance(value, Tensor) and value.is_floating_point()]
    if len(needed) <= 1 and len(inputs) == 1:
        return inputs[0]
    raise DataError(
        f"a batch that is a dict holds what forward takes by name ({', '.join(needed or taken)}), or one "
        f"floating-point tensor; got {', '.join(map(str, batch))}: say what goes in with forward=lambda model, batch: "
        "model(batch['...'])"
    )


def _parameters(model: nn.Module) -> tuple[list[str], list[str]]:
    """The parameters of the forward that need a value, and all that can be given by name."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return ["input"], []
    own = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    named = [p.name for p in own if p.kind is not p.POSITIONAL_ONLY]
    return [p.name for p in own if p.default is p.empty], named


class _Called(BaseException):
    """The network was called: no error, and nothing that a user's own pass may catch by ``except Exception``."""


def _caught(model: nn.Module, batch: Any, forward: Forward) -> Inputs:
    """What a user's own pass calls the network with first; the network does not run."""
    seen: list[Inputs] = []

    def called(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        names = inspect.signature(model.forward).parameters
        seen.append({**dict(zip(names, args, strict=False)), **kwargs} if kwargs else args)
        raise _Called

    hook = model.register_forward_pre_hook(called, with_kwargs=True, prepend=True)
    try:
        with torch.no_grad():
            forward(model, on_device(batch, device_of(model)))
    except _Called:
        pass
    except Exception as error:  # whatever a stranger's pass raises
        raise DataError(
            f"forward(model, batch) runs the network on a batch as the loader gave it, here a {type(batch).__name__}; "
            f"it fails ({first_words(error)}): take out of the batch what "
            "goes in, such as forward=lambda model, batch: model(batch[0])"
        ) from error
    finally:
        hook.remove()
    if not seen:
        raise DataError("forward(model, batch) calls the model that it is given; it did not: return model(...)")
    inputs = seen[0]
    return inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 and isinstance(inputs[0], Tensor) else inputs


def bytes_of(batch: object) -> int:
    """Of all tensors in it."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(batch))


def rows_of(batch: Any, rows: Tensor, count: int, *, whole: bool = True) -> Any:
    """Some rows of everything in a batch that has ``count`` of them; whatever else is in it as it is.

    Args:
        batch: as a loader gave it.
        rows: their numbers.
        count: of the samples in the batch.
        whole: whether it is the batch itself, whose items are columns even if there are ``count`` of them.
    """
    if isinstance(batch, Tensor):
        return batch[rows] if batch.dim() and len(batch) == count else batch
    if isinstance(batch, Mapping):
        return {key: rows_of(value, rows, count, whole=False) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        columns = all(isinstance(item, Tensor) and item.dim() and len(item) == count for item in batch)
        if len(batch) == count and not whole and not columns:
            return [batch[int(row)] for row in rows]  # names of files, boxes: one for each sample
        return [rows_of(item, rows, count, whole=False) for item in batch]
    return batch
