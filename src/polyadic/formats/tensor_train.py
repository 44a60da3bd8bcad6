"""Tensor train of the kernel itself: a 1 x 1, one convolution per axis of the window and a 1 x 1 (Oseledets 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from torch import Tensor

from polyadic.algebra import TensorTrain, largest_tt_ranks
from polyadic.decomposition import InputNorm, Solution, tt_als, tt_svd
from polyadic.formats.format import Format
from polyadic.formats.separable import along_axes, axes_apart, window_axes
from polyadic.formats.tt_ranks import tt_candidate_ranks, tt_energies_left, usable_ranks, widen_ranks
from polyadic.schema import ConvSpec, Rank, Stage


@final
@dataclass(frozen=True)
class TTFormat(Format):
    """``K[t, s, x, y] = G_1[s] G_2[x] G_3[y] G_4[t]`` with rank (r_1, r_2, r_3): S - r_1 - r_2 - r_3 - T.

    With the channels at the ends every core is a plain convolution. (In the order D, D, S, T, as the naive baseline of
    Garipov et al. 2016 has it, the window would need one set of filters shared by many channels; that one is
    ``tt-matrix[Tx1,1xS]``.)
    """

    name = "tt"

    def objection(self, spec: ConvSpec) -> str | None:
        """Windows that extend along fewer than two axes."""
        if len(window_axes(spec)) == 1:
            return "a window along one axis alone leaves the chain of tucker2, which is better at equal ranks"
        return super().objection(spec)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """For each bond the product of all sizes on its smaller side."""
        return largest_tt_ranks(self._sizes(spec))

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """1 x 1 (S to r_1), one stage along each axis, 1 x 1 (to T) with the bias."""
        along = zip(axes_apart(spec), pairwise(rank), strict=True)
        return (
            ConvSpec.pointwise(spec.in_channels, rank[0], spec.axes),
            *(spec.along(axes, r, q) for axes, (r, q) in along),
            ConvSpec.pointwise(rank[-1], spec.out_channels, spec.axes, bias=spec.bias),
        )

    def rising_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """The cheapest ranks for falling errors, as TT-SVD promises them."""
        return tt_candidate_ranks(self._tensor(kernel.double(), spec))

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """Between the largest and the sum of what the bonds leave (Oseledets 2011, theorem 2.2)."""
        return tt_energies_left(self._tensor(kernel, spec), ranks)

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[TensorTrain]:
        """TT-SVD of the S x window x T tensor, then alternating least squares at its ranks."""
        X = self._tensor(kernel, spec)
        return tt_als(X, tt_svd(X, usable_ranks(rank, self._sizes(spec))).factors)

    def unweigh(self, factors: TensorTrain, norm: InputNorm) -> TensorTrain:
        """The inverse weight goes into the first core, that of the inputs."""
        return factors.mode_product(norm.channels.inverse_root, 0)

    def parts(self, factors: TensorTrain, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """``G_1'`` (r_1 x S), the cores of the window as r_k x r_{k-1} x taps, ``G_d'`` (T x r_{d-1})."""
        first, *window, last = widen_ranks(factors, rank).cores
        return first[0].mT, *(G.permute(2, 0, 1) for G in window), last[:, :, 0].mT

    def _sizes(self, spec: ConvSpec) -> tuple[int, ...]:
        return spec.in_channels, *(spec.kernel[axis] for axis in window_axes(spec)), spec.out_channels

    def _tensor(self, kernel: Tensor, spec: ConvSpec) -> Tensor:
        """T x S x window as S x D x D x T."""
        return along_axes(kernel, window_axes(spec)).movedim(0, -1)
