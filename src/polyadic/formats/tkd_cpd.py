"""TKD-CPD: Tucker-2 and a stable CP of its core, up to five layers (Phan et al., ECCV 2020, Fig. 3c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from polyadic.algebra import kernel_to_order3, unfold
from polyadic.decomposition import (
    Solution,
    StableOptions,
    TuckerCP,
    forecast_split,
    full_rank,
    likely_ranks,
    tkd_cpd,
    tucker2_bounded,
)
from polyadic.decomposition.solution import check_tensor
from polyadic.formats.format import Format, energies_after
from polyadic.schema import ConvSpec, Rank, Stage


@final
@dataclass(frozen=True)
class TKDCPDFormat(Format):
    """``K = [[A, U B, V C]]`` with rank (R1, R2, R): 1 x 1s to R1 and to R, depthwise D x D, 1 x 1s to R2 and to T.

    Two 1 x 1 stages S -> R1 -> R cost ``R1 (S + R)`` weights, merged into one ``S R``: they stay apart only if
    ``R1 < S R / (S + R)``, each side on its own (the paper's condition, R above R1 and R2, is weaker).

    Attributes:
        tucker_error: relative error that the Tucker-2 part may take in a search, whatever the CP rank. None: each CP
            rank has the (R1, R2) that save weights at hardly any error, the full ones where none do.
        stable: options of the CP of the core.
    """

    name = "tkd-cpd-epc"

    tucker_error: float | None = None
    stable: StableOptions = field(default_factory=StableOptions)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """(S, T, the product of the two smallest of (D^2, S, T))."""
        S, T = spec.in_channels, spec.out_channels
        return S, T, full_rank((spec.taps, S, T))

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """Three to five stages: each side split or merged, whichever holds fewer weights."""
        R1, R2, R = rank
        S, T, axes = spec.in_channels, spec.out_channels, spec.axes
        first = [ConvSpec.pointwise(S, R, axes)]
        if splits(S, R1, R):
            first = [ConvSpec.pointwise(S, R1, axes), ConvSpec.pointwise(R1, R, axes)]
        last = [ConvSpec.pointwise(R, T, axes, bias=spec.bias)]
        if splits(T, R2, R):
            last = [ConvSpec.pointwise(R, R2, axes), ConvSpec.pointwise(R2, T, axes, bias=spec.bias)]
        depthwise = replace(spec, in_channels=R, out_channels=R, groups=R, bias=False)
        return (*first, depthwise, *last)

    def rising_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """R from 1 up to where the CP of the core is exact, (R1, R2) as ``tucker_error`` says."""
        K = kernel_to_order3(kernel)
        if self.tucker_error is not None:
            R1, R2 = tucker2_bounded(K, self.tucker_error).factors.ranks
            return [(R1, R2, R) for R in range(1, full_rank((spec.taps, R1, R2)) + 1)]
        D2, S, T = K.shape
        dense = max(1, K.numel() // (D2 + S + T))  # from here on a plain CP costs as much as the layer
        forecast = forecast_split(K.double(), max(1, round(0.3 * dense)))
        rising = [(*likely_ranks(forecast, R), R) for R in range(1, dense + 1)]
        return [*rising, *((S, T, R) for R in range(dense + 1, full_rank((D2, S, T)) + 1))]

    def tucker_ranks(self, kernel: Tensor, rank: int, error: float | None = None) -> tuple[int, int]:
        """(R1, R2) for a CP rank: as ``error``, or else ``tucker_error``, or else the rule of the candidates asks."""
        K, bound = kernel_to_order3(kernel), self.tucker_error if error is None else error
        check_tensor(K, self.name)
        if bound is not None:
            return tucker2_bounded(K, bound).factors.ranks
        return likely_ranks(forecast_split(K.double(), rank), rank)

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """At least what any unfolding leaves after R singular values, R1 on the input and R2 on the output side."""
        K = kernel_to_order3(kernel)
        cuts = [[R for *_, R in ranks], [min(R1, R) for R1, _, R in ranks], [min(R2, R) for _, R2, R in ranks]]
        left = energies_after([unfold(K, mode) for mode in range(3)], cuts)
        return left.amax(0), torch.full((len(ranks),), torch.inf).double()

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[TuckerCP]:
        """Tucker-2 and CP of the kernel as a D^2 x S x T tensor."""
        R1, R2, R = rank
        return tkd_cpd(kernel_to_order3(kernel), R, ranks=(R1, R2), options=self.stable, seed=seed)

    def parts(self, factors: TuckerCP, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """``U'``, ``B'``, ``A'``, ``C`` and ``V``; ``U B`` and ``V C`` multiplied out where a side is merged."""
        R = rank[2]
        A, B, C = factors.core.padded(R).factors
        first = [factors.U.mT, B.mT] if splits(spec.in_channels, rank[0], R) else [(factors.U @ B).mT]
        last = [C, factors.V] if splits(spec.out_channels, rank[1], R) else [factors.V @ C]
        return *first, A.mT, *last


def splits(channels: int, inner: int, R: int) -> bool:
    """Whether two 1 x 1 stages channels - inner - R hold fewer weights than one."""
    return inner * (channels + R) < channels * R
