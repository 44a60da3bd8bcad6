"""Tucker-2: a 1 x 1, a smaller D x D and a 1 x 1 convolution (Kim et al. 2016; Phan et al. 2020, eq. 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from torch import Tensor

from polyadic.algebra import Tucker2Tensor, kernel_to_order3, order3_to_kernel, unfold
from polyadic.decomposition import Solution, Tucker2Options, tucker2, tucker2_rank_frontier
from polyadic.formats.format import Format, energies_after
from polyadic.schema import ConvSpec, Rank, Stage, chain_params


@final
@dataclass(frozen=True)
class Tucker2Format(Format):
    """``K = G x_2 U x_3 V`` with rank (R1, R2)."""

    name = "tucker2"
    weighs_window: ClassVar[bool] = True

    options: Tucker2Options = field(default_factory=Tucker2Options)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """(S, T)."""
        return spec.in_channels, spec.out_channels

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """1 x 1 (S to R1), D x D (R1 to R2) with the layer's geometry, 1 x 1 (R2 to T) with its bias."""
        R1, R2 = rank
        return (
            ConvSpec.pointwise(spec.in_channels, R1, spec.axes),
            replace(spec, in_channels=R1, out_channels=R2, bias=False),
            ConvSpec.pointwise(R2, spec.out_channels, spec.axes, bias=spec.bias),
        )

    def rising_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """The Pareto frontier of (R1, R2) in weights and error."""
        return [*tucker2_rank_frontier(kernel_to_order3(kernel), lambda *rank: chain_params(self.chain(spec, rank)))]

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """Between the larger and the sum of what the two sides leave (HOSVD, from which HOOI starts)."""
        K = kernel_to_order3(kernel)
        left = energies_after([unfold(K, 1), unfold(K, 2)], [[R for R, _ in ranks], [R for _, R in ranks]])
        return left.amax(0), left.sum(0)

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[Tucker2Tensor]:
        """Tucker-2 of the kernel as a D^2 x S x T tensor."""
        return tucker2(kernel_to_order3(kernel), (rank[0], rank[1]), self.options)

    def parts(self, factors: Tucker2Tensor, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """``U'`` (R1 x S), the core (R2 x R1 x window), ``V`` (T x R2)."""
        return factors.U.mT, order3_to_kernel(factors.G, spec.kernel), factors.V
