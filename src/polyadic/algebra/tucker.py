"""The Tucker-2 format: a core between two orthonormal matrices, the spatial mode untouched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tucker2Tensor:
    """``K = G x_2 U x_3 V`` (Phan et al. 2020, eq. 14).

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

    @property
    def parameters(self) -> int:
        """``S R1 + T R2 + D^2 R1 R2``."""
        return self.G.numel() + self.U.numel() + self.V.numel()

    def full(self) -> Tensor:
        """The tensor itself, D^2 x S x T."""
        return torch.einsum("dpq,sp,tq->dst", self.G, self.U, self.V)

    def times_input(self, M: Tensor) -> Tucker2Tensor:
        """``K x_S M``; U is orthonormal no more."""
        return Tucker2Tensor(self.G, M @ self.U, self.V)

    def to(self, like: Tensor) -> Tucker2Tensor:
        """The same factors in the dtype and on the device of ``like``."""
        return Tucker2Tensor(self.G.to(like), self.U.to(like), self.V.to(like))
