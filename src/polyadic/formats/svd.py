"""SVD of 1 x 1 convolutions and fully connected layers: two of them in a row (Phan et al., ECCV 2020, Fig. 3b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from polyadic.algebra import LowRank
from polyadic.decomposition import Solution, truncated_svd
from polyadic.formats.format import Format, energies_after
from polyadic.schema import ConvSpec, Rank, Stage


@final
@dataclass(frozen=True)
class SVDFormat(Format):
    """``K = P Q`` with P (T x R) and Q (R x S)."""

    name = "svd"

    def objection(self, spec: ConvSpec) -> str | None:
        """Windows larger than one tap."""
        if spec.taps != 1:
            window = " x ".join(str(size) for size in spec.kernel)
            return f"svd factorises matrices (1 x 1 and fully connected layers), not a window of {window}"
        return None

    def full_rank(self, spec: ConvSpec) -> Rank:
        """min(S, T)."""
        return (min(spec.in_channels, spec.out_channels),)

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """S to R, R to T with its bias; stride and padding go where they leave fewer positions to the other stage."""
        if spec.transposed:
            return ConvSpec.pointwise(spec.in_channels, rank[0], spec.axes), replace(spec, in_channels=rank[0])
        return (
            replace(spec, out_channels=rank[0], bias=False),
            ConvSpec.pointwise(rank[0], spec.out_channels, spec.axes, bias=spec.bias),
        )

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """The singular values left out, exactly."""
        (left,) = energies_after([kernel.flatten(1)], [[R for (R,) in ranks]])
        return left, left

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[LowRank]:
        """SVD of the T x S matrix."""
        return truncated_svd(kernel.flatten(1), rank[0])

    def parts(self, factors: LowRank, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """Q (R x S), then P (T x R)."""
        return factors.Q, factors.P
