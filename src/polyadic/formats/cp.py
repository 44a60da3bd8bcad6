"""CP of order 3: a 1 x 1, a depthwise D x D and a 1 x 1 convolution (Phan et al., ECCV 2020, Fig. 3a)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, kernel_to_order3, unfold
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    EPCOptions,
    RidgeOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_epc,
    exact_cp,
    full_rank,
    stable_cp,
    stable_cp_batch,
)
from polyadic.formats.factored_kernel import FactoredKernel, weights_in_range
from polyadic.formats.format import Format, energies_after, stability_of_groups
from polyadic.schema import ConvSpec, Rank, Stage

# A search decomposes hundreds of kernels: a third of the time of the defaults of stable_cp, and an error that is a few
# tenths of a percent higher.
SWIFT = StableOptions(ridge=RidgeOptions(weakening=2.0, tolerance=1e-4), fit=BoundedOptions(max_sweeps=20), starts=1)


@final
@dataclass(frozen=True)
class CPFormat(Format):
    """``K = sum_r a_r o b_r o c_r``: ``B'`` mixes inputs, ``A`` filters each of R channels, ``C`` mixes outputs.

    Attributes:
        method: "cp-epc" (stable: penalised homotopy, then EPC), "cp-als" (plain ALS, the baseline), "cp-als-epc" (ALS,
            then EPC: the method of the ECCV paper).
        stable: options of "cp-epc".
        als: options of the two others.
        epc: options of the correction in "cp-als-epc".
    """

    weighs_window: ClassVar[bool] = True

    method: Literal["cp-epc", "cp-als", "cp-als-epc"] = "cp-epc"
    stable: StableOptions = SWIFT
    als: ALSOptions = field(default_factory=ALSOptions)
    epc: EPCOptions = field(default_factory=EPCOptions)

    @property
    def name(self) -> str:
        """The method."""
        return self.method

    def full_rank(self, spec: ConvSpec) -> Rank:
        """The product of the two smallest of (D^2, S, T)."""
        return (full_rank(_sizes(spec)),)

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """1 x 1 (S to R), depthwise D x D with the layer's geometry, 1 x 1 (R to T) with its bias.

        A 1 x 1 convolution without bias commutes with every padding mode, so the depthwise stage may carry it.
        """
        (R,) = rank
        return (
            ConvSpec.pointwise(spec.in_channels, R, spec.axes),
            replace(spec, in_channels=R, out_channels=R, groups=R, bias=False),
            ConvSpec.pointwise(R, spec.out_channels, spec.axes, bias=spec.bias),
        )

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """At least what any unfolding leaves after R singular values."""
        return cp_energies_left(kernel_to_order3(kernel), [R for (R,) in ranks])

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[CPTensor]:
        """CP of the kernel as a D^2 x S x T tensor."""
        K, (R,) = kernel_to_order3(kernel), rank
        if self.method == "cp-epc":
            return stable_cp(K, R, self.stable, seed=seed)
        if full_rank(_sizes(spec)) == R:
            return exact_cp(K, R)
        fitted = cp_als(K.double(), R, self.als, seed=seed)
        if self.method == "cp-als-epc":
            return cp_epc(K, fitted.factors, self.epc)
        return replace(fitted, factors=fitted.factors.to(K))

    def solve_all(self, kernels: list[Tensor], spec: ConvSpec, rank: Rank, seed: int) -> list[Solution[CPTensor]]:
        """The groups in one batch, where the method has one."""
        if self.method == "cp-epc":
            return stable_cp_batch([kernel_to_order3(kernel) for kernel in kernels], rank[0], self.stable, seed=seed)
        return [self.solve(kernel, spec, rank, seed) for kernel in kernels]

    def parts(self, factors: CPTensor, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """``B'`` (R x S), ``A'`` (R x D^2), ``C`` (T x R); terms that the solver dropped are zero."""
        A, B, C = factors.padded(rank[0]).factors
        return B.mT, A.mT, C

    def refitted(self, factored: FactoredKernel, last: Tensor, kernel: Tensor) -> FactoredKernel:
        """The columns are rescaled to their best norms again, and the stability is that of the new factors."""
        chain = rebalance(factored, last, kernel)
        return super().refitted(chain, chain.weights[-1], kernel)


def cp_energies_left(X: Tensor, ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Least and most squared error of a CP of ``X`` at each of ``ranks``: its unfoldings are of rank R at most."""
    left = energies_after([unfold(X, mode) for mode in range(X.ndim)], [list(ranks)] * X.ndim)
    return left.amax(0), torch.full((len(ranks),), torch.inf).double()


def rebalance(factored: FactoredKernel, last: Tensor, kernel: Tensor) -> FactoredKernel:
    """A CP of any order with ``last`` for its last stage: balanced columns, and the stability of these factors."""
    groups = factored.stages[0].groups
    stored = last.to(factored.weights[-1])
    given = (*factored.weights[:-1], stored if bool(torch.isfinite(stored).all()) else last)
    terms = []
    for *inner, outer in zip(*(weight.double().chunk(groups) for weight in given), strict=True):
        terms.append(CPTensor((*(weight.flatten(1).mT for weight in inner), outer.flatten(1))).rescaled())
    stages = [
        torch.cat([U.mT if number < len(given) - 1 else U for U in columns])
        for number, columns in enumerate(zip(*(cp.factors for cp in terms), strict=True))
    ]
    stability = stability_of_groups(terms, kernel)
    return replace(
        factored,
        weights=weights_in_range(
            factored.stages, [M.reshape(old.shape) for M, old in zip(stages, given, strict=True)], stored
        ),
        sensitivity=stability.sensitivity if stability else None,
        intensity_ratio=stability.intensity_ratio if stability else None,
    )


def _sizes(spec: ConvSpec) -> tuple[int, int, int]:
    return spec.taps, spec.in_channels, spec.out_channels
