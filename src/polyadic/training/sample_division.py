"""Samples are read once, and divided into those that teach, those that choose and those that judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.errors import DataError
from polyadic.layers import Inputs, sample_shapes
from polyadic.training.sample_checks import check_inputs, try_sample
from polyadic.training.samples import MOST_BYTES, NO_BATCHES, Samples, batches_of, bytes_of, rows_of

Count = Callable[[Any], int]
"""How many samples a batch holds."""

ENOUGH_SAMPLES, ENOUGH_NUMBERS = 24, 2**16
"""Held-out samples, and numbers in their outputs, by which a search tells plans apart."""


def read_batches(
    dense: nn.Module, samples: Samples, name: str, inputs_of: Callable[[Any], Inputs]
) -> tuple[list[Any], bool]:
    """All batches, checked; and whether there are more than are kept.

    Args:
        dense: has to take the first of each size.
        samples: to be read.
        name: of these, for messages.
        inputs_of: what of a batch goes in.

    Raises:
        DataError: there are none, or they do not go in.
    """
    batches, kept, known = [], 0, set[object]()
    for number, batch in enumerate(batches_of(samples, name)):
        inputs = inputs_of(batch)
        check_inputs(dense, inputs, f"batch {number} of {name}")
        if sample_shapes(inputs) not in known:
            try_sample(dense, inputs, f"batch {number} of {name}", first=not known)
        known.add(sample_shapes(inputs))
        batches.append(batch)
        kept += bytes_of(inputs)
        if kept >= MOST_BYTES:
            return batches, True
    if not batches:
        raise DataError(f"{name} {NO_BATCHES}")
    return batches, False


def divided(batches: list[Any], count: Count) -> tuple[list[Any], list[Any], list[Any]]:
    """Batches that teach, choose and judge: of ten samples seven, two and one.

    Raises:
        DataError: fewer than 3 samples.
    """
    samples = sum(map(count, batches))
    if samples < 3:
        raise DataError(f"samples teach, choose and judge, so there are 3 or more; got {samples}: give more")
    if samples < 10:
        return _parts(batches, count, lambda number: number % 3)
    return _parts(batches, count, lambda number: {3: 1, 8: 1, 5: 2}.get(number % 10, 0))


def divided_in_two(batches: list[Any], count: Count) -> tuple[list[Any], list[Any]]:
    """Batches that choose and judge: of three samples two and one.

    Raises:
        DataError: a single sample.
    """
    if sum(map(count, batches)) < 2:
        raise DataError("validation holds 2 samples or more, one to choose by and one to judge by; got 1")
    _, choose, judge = _parts(batches, count, lambda number: 2 if number % 3 == 1 else 1)
    return choose, judge


def enough_batches(answers: list[list[Tensor]]) -> int:
    """How many of the batches tell plans apart: those that hold so many samples and so many numbers of the outputs.

    A map says far more of a network than a row of logits, and takes as much longer: a few maps are enough.
    """
    samples = numbers = 0
    for count, batch in enumerate(answers, 1):
        samples += len(batch[0])
        numbers += sum(answer.numel() for answer in batch)
        if samples >= ENOUGH_SAMPLES and numbers >= ENOUGH_NUMBERS:
            return count
    return len(answers)


def _parts(batches: list[Any], count: Count, part_of: Callable[[int], int]) -> tuple[list[Any], list[Any], list[Any]]:
    """Rows of all batches, by the part that their number among all samples says."""
    parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    before = 0
    for batch in batches:
        rows_here = count(batch)
        numbers = [part_of(before + row) for row in range(rows_here)]
        for part, held in enumerate(parts):
            rows = torch.tensor([row for row, number in enumerate(numbers) if number == part], dtype=torch.long)
            if len(rows):
                held.append(rows_of(batch, rows, rows_here))
        before += rows_here
    return parts
