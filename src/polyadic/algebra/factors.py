"""What every format of a tensor has in common, and the two formats of thin matrices: low rank and Tucker-2."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


class Factors(ABC):
    """A tensor in some format.

    Implementations are frozen dataclasses whose fields are tensors, other factors, or tuples of these (None for what
    is left out).
    """

    @abstractmethod
    def full(self) -> Tensor:
        """The tensor itself."""

    @abstractmethod
    def times_input(self, M: Tensor) -> Self:
        """The factors of ``K x_S M`` for a kernel ``K`` with S input channels (M is S x S)."""

    @property
    def parameters(self) -> int:
        """How many numbers the format stores."""
        return sum(U.numel() for U in self.tensors())

    def tensors(self) -> list[Tensor]:
        """All of them, in the order of the fields."""
        found: list[Tensor] = []

        def keep(U: Tensor) -> Tensor:
            found.append(U)
            return U

        self.map(keep)
        return found

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same format with every tensor changed."""
        return type(self)(*(_changed(value, change) for value in vars(self).values()))

    def to(self, like: Tensor) -> Self:
        """The same factors in the dtype and on the device of ``like``."""
        return self.map(lambda U: U.to(like))

    def double(self) -> Self:
        """The same factors in float64, free of any graph."""
        return self.map(lambda U: U.detach().double())

    def is_finite(self) -> bool:
        """Whether no entry is NaN or Inf."""
        return all(bool(torch.isfinite(U).all()) for U in self.tensors())


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Factors):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    return value if value is None else change(value)


@dataclass(frozen=True)
class LowRank(Factors):
    """A matrix as the product of two thin ones, ``M = P Q``.

    Attributes:
        P: rows x R.
        Q: R x columns.
    """

    P: Tensor
    Q: Tensor

    @property
    def rank(self) -> int:
        """The number R of columns of ``P``."""
        return int(self.P.shape[1])

    def full(self) -> Tensor:
        """The matrix itself, rows x columns."""
        return self.P @ self.Q

    def times_input(self, M: Tensor) -> LowRank:
        """``K x_S M`` for a kernel T x S."""
        return LowRank(self.P, self.Q @ M.mT)


@dataclass(frozen=True)
class Tucker2Tensor(Factors):
    """A core between two orthonormal matrices, ``K = G x_2 U x_3 V`` (Phan et al. 2020, eq. 14).

    Attributes:
        G: core, D^2 x R1 x R2.
        U: input side, S x R1, orthonormal columns.
        V: output side, T x R2, orthonormal columns.
    """

    G: Tensor
    U: Tensor
    V: Tensor

    @property
    def ranks(self) -> tuple[int, int]:
        """(R1, R2)."""
        return int(self.U.shape[1]), int(self.V.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D^2, S, T)."""
        return int(self.G.shape[0]), int(self.U.shape[0]), int(self.V.shape[0])

    def full(self) -> Tensor:
        """The tensor itself, D^2 x S x T."""
        return torch.einsum("dpq,sp,tq->dst", self.G, self.U, self.V)

    def times_input(self, M: Tensor) -> Tucker2Tensor:
        """``K x_S M``; U is orthonormal no more."""
        return Tucker2Tensor(self.G, M @ self.U, self.V)
