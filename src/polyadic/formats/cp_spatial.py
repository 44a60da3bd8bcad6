"""CP of order 4: a 1 x 1, a depthwise D x 1, a depthwise 1 x D and a 1 x 1 (Lebedev et al., ICLR 2015), kept stable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition import Solution, StableOptions, full_rank, stable_cp, stable_cp_batch
from polyadic.formats.cp import SWIFT, cp_energies_left, rebalance
from polyadic.formats.factored_kernel import FactoredKernel
from polyadic.formats.format import Format
from polyadic.formats.separable import along_axes, axes_apart, window_axes
from polyadic.schema import ConvSpec, Rank, Stage


@final
@dataclass(frozen=True)
class SpatialCPFormat(Format):
    """``K = sum_r x_r o b_r o c_r o y_r``, one factor for every axis of the window (order 5 for three axes).

    The tensor is ``D x S x T x D``: the inputs are its second mode, as in a CP of order 3.

    Attributes:
        stable: options of the decomposition (penalised homotopy, then EPC).
    """

    name = "cp4-epc"

    stable: StableOptions = SWIFT

    def objection(self, spec: ConvSpec) -> str | None:
        """Windows that extend along fewer than two axes."""
        if len(window_axes(spec)) == 1:
            return "cp4-epc has a factor for each of several axes, and this window extends along one: use cp-epc"
        return super().objection(spec)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """The product of all sizes but the largest of (D, S, T, D)."""
        return (full_rank(self._sizes(spec)),)

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """1 x 1 (S to R), one depthwise stage along each axis, 1 x 1 (R to T) with the bias."""
        (R,) = rank
        return (
            ConvSpec.pointwise(spec.in_channels, R, spec.axes),
            *(replace(spec.along(axes, R, R), groups=R) for axes in axes_apart(spec)),
            ConvSpec.pointwise(R, spec.out_channels, spec.axes, bias=spec.bias),
        )

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """At least what any unfolding leaves after R singular values."""
        return cp_energies_left(self._tensor(kernel, spec), [R for (R,) in ranks])

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[CPTensor]:
        """Stable CP of the kernel as a D x S x T x D tensor."""
        return stable_cp(self._tensor(kernel, spec), rank[0], self.stable, seed=seed)

    def solve_all(self, kernels: list[Tensor], spec: ConvSpec, rank: Rank, seed: int) -> list[Solution[CPTensor]]:
        """The groups in one batch."""
        return stable_cp_batch([self._tensor(kernel, spec) for kernel in kernels], rank[0], self.stable, seed=seed)

    def parts(self, factors: CPTensor, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """``B'`` (R x S), a filter of R x D for each axis, ``C`` (T x R)."""
        first, B, C, *rest = factors.padded(rank[0]).factors
        return B.mT, first.mT, *(U.mT for U in rest), C

    def refitted(self, factored: FactoredKernel, last: Tensor, kernel: Tensor) -> FactoredKernel:
        """The columns are rescaled to their best norms again, and the stability is that of the new factors."""
        chain = rebalance(factored, last, kernel)
        return super().refitted(chain, chain.weights[-1], kernel)

    def _sizes(self, spec: ConvSpec) -> tuple[int, ...]:
        first, *rest = (spec.kernel[axis] for axis in window_axes(spec))
        return first, spec.in_channels, spec.out_channels, *rest

    def _tensor(self, kernel: Tensor, spec: ConvSpec) -> Tensor:
        """T x S x D x D as D x S x T x D."""
        return along_axes(kernel, window_axes(spec)).transpose(0, 1).movedim(2, 0)
