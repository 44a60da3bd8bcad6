"""Samples as people hold them: what yields batches, what of a batch goes into the network, and parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from polyadic.errors import DataError

Samples = Tensor | Iterable[Any] | Callable[[], Iterable[Any]]
"""What yields batches: a DataLoader, a list, a function that begins a generator; or one tensor, which is cut up."""

MOST_BYTES = 2**30
"""Of samples that are kept in memory; what a loader yields beyond is not read."""

ROWS = 32
"""Samples a pass, where one tensor is given in the place of batches."""


NO_BATCHES = (
    "yield at least one batch; got none: the loader is empty, or a generator that was used up before (give the "
    "function that begins it)"
)


def sample_inputs(samples: Samples, input_of: Callable[[Any], Tensor] | None = None) -> Iterator[Tensor]:
    """What of each batch goes into the network, for at most 1 GiB of them.

    Args:
        samples: a DataLoader or another iterable of batches, a function that begins a generator, or one tensor.
        input_of: of a batch; by default the first tensor of a tuple or list, the only floating-point one of a dict.

    Raises:
        DataError: no batches, or one without an input.
    """
    read, take = 0, input_of or first_tensor
    for batch in batches_of(samples, "inputs"):
        x = take(batch)
        yield x
        read += x.numel() * x.element_size()
        if read >= MOST_BYTES:
            return
    if not read:
        raise DataError(f"inputs {NO_BATCHES}")


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
            "DataLoader(TensorDataset(x, y), batch_size=32)"
        )
    if callable(samples):
        samples = samples()
    if isinstance(samples, str | bytes | Mapping | Path) or not isinstance(samples, Iterable):
        raise DataError(
            f"{name} are a DataLoader or another iterable of batches; got {type(samples).__name__}: pass "
            "DataLoader(inputs, batch_size=32)"
        )
    return samples


def first_tensor(batch: Any) -> Tensor:
    """What of a batch goes into the network.

    Raises:
        DataError: that cannot be told.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor):
        return batch[0]
    if isinstance(batch, Mapping):
        inputs = [value for value in batch.values() if isinstance(value, Tensor) and value.is_floating_point()]
        if len(inputs) == 1:
            return inputs[0]
        raise DataError(
            f"a batch that is a dict has one floating-point tensor, which goes into the network; got {len(inputs)} "
            f"under {', '.join(map(str, batch))}: say which with input_of=lambda batch: batch['...']"
        )
    kind = type(batch).__name__ if not isinstance(batch, tuple | list) or not batch else type(batch[0]).__name__
    raise DataError(
        f"a batch is a tensor, a tuple or list whose first item is one, or a dict; got {kind}: convert it, or say what "
        "goes into the network with input_of=lambda batch: ..."
    )


def rows_of(batch: Any, rows: Tensor, count: int) -> Any:
    """Some rows of every tensor of a batch that has ``count``; whatever else is in it as it is."""
    if isinstance(batch, Tensor):
        return batch[rows] if batch.dim() and len(batch) == count else batch
    if isinstance(batch, Mapping):
        return {key: rows_of(value, rows, count) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        if len(batch) == count and not any(isinstance(item, Tensor | Mapping | tuple | list) for item in batch):
            return [batch[int(row)] for row in rows]  # names of files, a number for each sample
        return [rows_of(item, rows, count) for item in batch]
    return batch
