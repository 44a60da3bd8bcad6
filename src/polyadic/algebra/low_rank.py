"""A matrix as the product of two thin ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """``M = P Q``.

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

    @property
    def parameters(self) -> int:
        """``R (rows + columns)``."""
        return self.P.numel() + self.Q.numel()

    def full(self) -> Tensor:
        """The matrix itself, rows x columns."""
        return self.P @ self.Q

    def times_input(self, M: Tensor) -> LowRank:
        """``K x_S M`` for a kernel T x S."""
        return LowRank(self.P, self.Q @ M.mT)

    def to(self, like: Tensor) -> LowRank:
        """The same factors in the dtype and on the device of ``like``."""
        return LowRank(self.P.to(like), self.Q.to(like))
