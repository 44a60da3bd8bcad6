"""The members of a batch that a solver still works on: each leaves when it is done, the others go on without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.solution import Solution, StopReason, solution_of
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class Finished:
    """What became of one member: its factors (of the unit tensor), why they stopped and the squared error by sweep."""

    cp: CPTensor
    stop: StopReason
    squared_errors: tuple[float, ...]


class Batch:
    """Who is still at work.

    Attributes:
        unit: the tensors of those at work.
        members: their numbers in the whole batch.
    """

    def __init__(self, unit: UnitTensors) -> None:
        """All are at work."""
        self.unit = unit
        self.members = list(range(len(unit)))
        self._errors: list[list[float]] = [[] for _ in self.members]
        self._finished: dict[int, Finished] = {}

    def record(self, squared_errors: Tensor) -> None:
        """Note the squared errors after a sweep of those at work."""
        for member, error in zip(self.members, squared_errors.tolist(), strict=True):
            self._errors[member].append(error)

    def errors(self, member: int) -> list[float]:
        """What was noted of a member so far."""
        return self._errors[member]

    def retire(self, done: Tensor, cp: CPTensor, stops: Sequence[StopReason]) -> Tensor | None:
        """Let those leave for whom ``done`` holds; ``cp`` and ``stops`` are of all at work.

        Returns:
            The positions of those that stay; None if nobody leaves, or nobody stays.
        """
        leaving = done.tolist()
        if not any(leaving):
            return None
        for position, member in enumerate(self.members):
            if leaving[position]:
                errors = tuple(self._errors[member])
                self._finished[member] = Finished(cp[position], stops[position], errors)
        self.members = [member for member, leaves in zip(self.members, leaving, strict=True) if not leaves]
        if not self.members:
            return None
        staying = torch.nonzero(~done).flatten()
        self.unit = self.unit[staying]
        return staying

    def finished(self) -> list[Finished]:
        """The outcome of every member, in order."""
        return [self._finished[member] for member in sorted(self._finished)]


def check_factors(cp: CPTensor, K: Tensor, name: str) -> None:
    """Refuse factors that are not of ``K``.

    Raises:
        DecompositionError: a batch, columns that do not match, other sizes, NaN or Inf.
    """
    if any(U.ndim != 2 for U in cp.factors) or len({U.shape[-1] for U in cp.factors}) != 1 or cp.rank < 1:
        shapes = [tuple(U.shape) for U in cp.factors]
        raise DecompositionError(f"{name} takes one matrix per mode, all with the same R >= 1 columns; got {shapes}")
    if cp.shape != tuple(K.shape):
        raise DecompositionError(f"{name}: the factors make a {cp.shape} tensor, the tensor is {tuple(K.shape)}")
    if not all(bool(torch.isfinite(U).all()) for U in cp.factors):
        raise DecompositionError(f"{name} starts from finite factors; got NaN or Inf among them: decompose again")


def solutions(tensors: Sequence[Tensor], unit: UnitTensors, runs: Sequence[Finished]) -> list[Solution[CPTensor]]:
    """The outcomes of a batch as solutions of the tensors that were given."""
    answers = []
    for number, (K, run) in enumerate(zip(tensors, runs, strict=True)):
        one = unit[torch.tensor([number])]
        cp = one.outside(CPTensor(tuple(U[None] for U in run.cp.factors)))[0]
        answers.append(solution_of(K, cp, run.stop, run.squared_errors))
    return answers
