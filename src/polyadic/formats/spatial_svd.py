"""Spatial SVD: a D x 1 and a 1 x D convolution (Jaderberg, Vedaldi and Zisserman, BMVC 2014, scheme 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from polyadic.algebra import LowRank
from polyadic.decomposition import InputNorm, Solution, truncated_svd
from polyadic.formats.format import Format, energies_after
from polyadic.formats.separable import along_axes, axes_apart, window_axes
from polyadic.schema import ConvSpec, Rank, Stage


@final
@dataclass(frozen=True)
class SpatialSVDFormat(Format):
    """``K[t, s, x, y] = sum_r P[t, y, r] Q[r, s, x]``: the best of all such sums, by one SVD.

    A window of three axes is split into the first and the other two.
    """

    name = "spatial-svd"

    def objection(self, spec: ConvSpec) -> str | None:
        """Windows that extend along fewer than two axes."""
        if len(window_axes(spec)) == 1:
            return "spatial-svd splits a window between its axes, and this one extends along a single axis"
        return super().objection(spec)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """min(S D, T D)."""
        taps = spec.kernel[window_axes(spec)[0]]
        return (min(spec.in_channels * taps, spec.out_channels * spec.taps // taps),)

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """S to R along the first axis, R to T along the others with the bias."""
        first, *rest = axes_apart(spec)
        others = tuple(axis for axes in rest for axis in axes)
        last = spec.along(others, rank[0], spec.out_channels)
        return spec.along(first, spec.in_channels, rank[0]), replace(last, bias=spec.bias)

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """The singular values left out, exactly."""
        (left,) = energies_after([self._matrix(kernel, spec)], [[R for (R,) in ranks]])
        return left, left

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[LowRank]:
        """SVD of the (T D) x (S D) matrix."""
        return truncated_svd(self._matrix(kernel, spec), rank[0])

    def _matrix(self, kernel: Tensor, spec: ConvSpec) -> Tensor:
        """T x S x window as (T D) x (S D)."""
        T, S = kernel.shape[:2]
        first, *rest = window_axes(spec)
        taps = spec.kernel[first]
        window = along_axes(kernel, (first, *sorted(rest))).reshape(T, S, taps, -1)
        return window.permute(0, 3, 1, 2).reshape(T * spec.taps // taps, S * taps)

    def unweigh(self, factors: LowRank, norm: InputNorm) -> LowRank:
        """The inverse weight goes into Q, whose columns are S x D."""
        root = norm.channels.inverse_root  # symmetric
        Q = torch.einsum("rsd,su->rud", factors.Q.reshape(factors.rank, len(root), -1), root)
        return LowRank(factors.P, Q.flatten(1))

    def parts(self, factors: LowRank, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """Q (R x S D), P as T x R x D."""
        return factors.Q, factors.P.reshape(spec.out_channels, -1, rank[0]).mT
