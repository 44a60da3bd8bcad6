"""The processes that fine-tune one network together, and the only one there is where nobody started several."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar, cast, final

from torch import Tensor, nn

T = TypeVar("T")


class Processes(ABC):
    """Each holds a copy of the network and works on its own rows of every batch.

    All of them make the same calls in the same order, but for ``failed``. The first one, the main one, searches, writes
    files and speaks.
    """

    @property
    @abstractmethod
    def rank(self) -> int:
        """Which one this is, from 0."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many there are, on all hosts."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """The rows of ``total`` that are this process's: contiguous and disjoint; numbers differ by at most 1."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    @abstractmethod
    def replica(self, model: nn.Module) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        """Run ``model`` on a process's rows so that ``backward`` leaves the gradient of all rows in its parameters.

        Of each parameter the mean over processes of their gradients. Batch norm in training mode takes mean and
        variance over the rows of all. On entering, the main one's parameters and buffers become everyone's.
        """

    @abstractmethod
    def total(self, share: Tensor) -> Tensor:
        """The sum of everyone's ``share``, the same bits everywhere; ``share`` may be overwritten."""

    @abstractmethod
    def gathered(self, value: T) -> list[T]:
        """Everyone's ``value``, in the order of ranks."""

    @abstractmethod
    def broadcast(self, value: T | None) -> T:
        """The main one's ``value``. The others wait for it, however long it takes the main one to come here."""

    @abstractmethod
    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Write the main one's numbers into everyone's ``tensors``, which are on their devices."""

    @abstractmethod
    def failed(self, tell: Callable[[], None]) -> None:
        """Say that this process gives up: ``tell`` is called in the first that says so, and whoever waits is freed."""


@final
class Alone(Processes):
    """One process: nothing is shared and nobody is waited for."""

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def count(self) -> int:
        """1."""
        return 1

    @contextlib.contextmanager
    def replica(self, model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
        """The model itself."""
        yield model

    def total(self, share: Tensor) -> Tensor:
        """The share itself."""
        return share

    def gathered(self, value: T) -> list[T]:
        """One value."""
        return [value]

    def broadcast(self, value: T | None) -> T:
        """The value itself."""
        return cast(T, value)

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """There is nobody to disagree with."""

    def failed(self, tell: Callable[[], None]) -> None:
        """Tell."""
        tell()


ALONE = Alone()
