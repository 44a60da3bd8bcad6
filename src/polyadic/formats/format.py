"""The interface of a format: the bridge between a decomposition and a chain of layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition import InputNorm, Solution, Stability, TuckerCP
from polyadic.decomposition.solution import check_tensor
from polyadic.decomposition.svd import singular_values
from polyadic.errors import LayerError
from polyadic.formats.factored_kernel import FactoredKernel, error_of, weights_in_range
from polyadic.schema import ConvSpec, Rank, Stage, plain_rank, stride_early


class Format(ABC):
    """One way to write a kernel as a chain of layers. Implementations are frozen dataclasses, one file each.

    The first half is what the rest of the library calls, for layers of any number of groups. An implementation gives
    the second half, which sees one group alone; several groups are chains side by side, each stage with as many groups.

    Attributes:
        weighs_window: whether factors can be weighed over the window and the outputs too, not over the inputs alone.
        repeatable: whether chains of several groups can stand side by side.
    """

    weighs_window: ClassVar[bool] = False
    repeatable: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in plans and on the command line, such as "cp-epc"."""

    def refuses(self, spec: ConvSpec) -> str | None:
        """Why this format cannot serve such a layer, in one sentence; None if it can."""
        if spec.groups > 1 and spec.groups == spec.in_channels:
            return "a depthwise convolution has no channel mixing left to factorise"
        if spec.groups > 1 and not self.repeatable:
            return f"{self.name} runs over all channels of a layer, and groups = {spec.groups} keep them apart"
        return self.objection(spec.one_group)

    def largest_rank(self, spec: ConvSpec) -> Rank:
        """The ranks beyond which nothing is gained: there the chain equals the layer exactly."""
        return self.full_rank(spec.one_group)

    def stages(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """The chain for a rank (that of each group), in integers alone, with every stride as early as it is exact."""
        chain = stride_early(self.chain(spec.one_group, rank))
        if spec.groups == 1:
            return chain
        return tuple(stage.repeated(spec.groups) for stage in chain if isinstance(stage, ConvSpec))

    def candidate_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """The ranks of ``kernel`` (T x S/groups x window) that a search may choose from, cheap and inexact ones first.

        Each costs more and errs less than the one before it. Of several groups, the one of largest norm decides.

        Raises:
            DecompositionError: NaN or Inf weights.
        """
        check_tensor(kernel, self.name, kernel.ndim)
        kernel = _wide_enough(kernel)
        groups = kernel.reshape(spec.groups, -1, *kernel.shape[1:])
        return self.rising_ranks(groups[int(groups.flatten(1).norm(dim=1).argmax())], spec.one_group)

    def factorise(
        self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int = 0, norm: InputNorm | None = None
    ) -> FactoredKernel:
        """Decompose ``kernel`` (T x S/groups x window) and lower it to a chain; the error is measured on the chain.

        The weights have the dtype of the kernel. Where a stage would leave its range, the stages share the scale.

        Args:
            kernel: of the layer, as :attr:`ConvSpec.weight_shape` says.
            spec: its geometry.
            rank: rank or ranks, of each group.
            seed: of the decomposition.
            norm: of the layer's inputs, in which the error is then made small; the plain norm when absent, and for
                layers of several groups.

        Raises:
            LayerError: the format refuses the layer, the rank is out of bounds, the kernel is not the layer's, or its
                dtype cannot hold the factors.
            DecompositionError: NaN or Inf weights.
        """
        self.check(spec, rank)
        if tuple(kernel.shape) != spec.weight_shape:
            raise LayerError(f"the layer's kernel has shape {spec.weight_shape}; got {tuple(kernel.shape)}")
        norm = None if spec.groups > 1 else norm
        one, weighted, wide = spec.one_group, None, _wide_enough(kernel)
        if norm is not None:
            norm = (norm if self.weighs_window else norm.channels_only()).to(kernel.device)
            solution, weighted = self.solve_in(wide, one, rank, seed, norm)
            solutions = [solution]
        else:
            solutions = self.solve_all(list(wide.chunk(spec.groups)), one, rank, seed)
        parts = [self.weights(solution.factors, one, rank) for solution in solutions]
        stages = self.stages(spec, rank)
        weights = weights_in_range(stages, [torch.cat(stage) for stage in zip(*parts, strict=True)], kernel)
        stability = solutions[0].stability
        if spec.groups > 1:
            factors = [found.factors for found in solutions]
            cores = [each.core if isinstance(each, TuckerCP) else each for each in factors]
            stability = stability_of_groups([each for each in cores if isinstance(each, CPTensor)], kernel)
        chain = FactoredKernel(
            self.name,
            rank,
            stages,
            weights,
            0.0,
            max(solutions, key=lambda solution: solution.relative_error).stop.value,
            stability.sensitivity if stability else None,
            stability.intensity_ratio if stability else None,
            weighted,
        )
        return replace(chain, relative_error=error_of(kernel, chain))

    def error_bounds(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> list[tuple[float, float]]:
        """Between which relative errors the factors of ``kernel`` lie at each of ``ranks``, without decomposing it.

        From one spectrum per unfolding: a format that is of rank R in an unfolding leaves at least the energy of the
        singular values after the R-th, and one found by truncation leaves at most the sum over its unfoldings.
        """
        groups = [(K, K.double().square().sum()) for K in _wide_enough(kernel.detach()).chunk(spec.groups)]
        whole = float(torch.stack([energy for _, energy in groups]).sum())
        lower, upper = torch.zeros(len(ranks)).double(), torch.zeros(len(ranks)).double()
        for K, energy in groups:
            least, most = self.energies_left(K, spec.one_group, ranks)
            lower, upper = lower + least.clamp_max(energy.cpu()), upper + most
        scale = 1.0 / whole if whole > 0 else 1.0
        bounds = zip((lower * scale).sqrt().tolist(), (upper * scale).sqrt().tolist(), strict=True)
        return [(least, most) for least, most in bounds]

    def refitted(self, factored: FactoredKernel, last: Tensor, kernel: Tensor) -> FactoredKernel:
        """``factored`` with ``last`` as the weight of its last stage; its error is that against ``kernel``."""
        weights = weights_in_range(factored.stages, (*factored.weights[:-1], last), factored.weights[-1])
        chain = replace(factored, weights=weights)
        return replace(chain, relative_error=error_of(kernel, chain))

    def check(self, spec: ConvSpec, rank: Rank) -> None:
        """Refuse what cannot be built.

        Raises:
            LayerError: the format refuses the layer, or the rank is out of bounds.
        """
        self.check_served(spec)
        largest = self.largest_rank(spec)
        shape = " x ".join(str(size) for size in spec.weight_shape)
        if len(rank) != len(largest):
            raise LayerError(f"{self.name} takes {len(largest)} rank(s) for a {shape} layer; got {plain_rank(rank)}")
        if any(not 1 <= value <= most for value, most in zip(rank, largest, strict=True)):
            raise LayerError(
                f"{self.name} rank {plain_rank(rank)} is out of bounds for a {shape} layer: "
                f"ranks lie between 1 and {plain_rank(largest)}"
            )

    def check_served(self, spec: ConvSpec) -> None:
        """Refuse a layer that this format cannot serve.

        Raises:
            LayerError: with the reason.
        """
        reason = self.refuses(spec)
        if reason:
            raise LayerError(f"{self.name} cannot be used here: {reason}")

    def objection(self, spec: ConvSpec) -> str | None:
        """Why this format cannot serve one group like this; None if it can. Unless overridden: a window of one tap."""
        return "a 1 x 1 kernel is a matrix, for which svd is optimal" if spec.taps == 1 else None

    @abstractmethod
    def full_rank(self, spec: ConvSpec) -> Rank:
        """As :meth:`largest_rank`, for one group."""

    @abstractmethod
    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[Stage, ...]:
        """As :meth:`stages`, for one group."""

    def rising_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """As :meth:`candidate_ranks`, for one group. Unless overridden: every rank from 1 up to the full one."""
        return [(R,) for R in range(1, self.full_rank(spec)[0] + 1)]

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """Least and most squared error (float64) at each of ``ranks`` for one group: 0 and infinity if unknown."""
        return torch.zeros(len(ranks)).double(), torch.full((len(ranks),), torch.inf).double()

    @abstractmethod
    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[Any]:
        """Decompose the ``kernel`` (T x S x window) of one group."""

    def solve_all(self, kernels: list[Tensor], spec: ConvSpec, rank: Rank, seed: int) -> list[Solution[Any]]:
        """Decompose kernels of one shape, those of the groups."""
        return [self.solve(kernel, spec, rank, seed) for kernel in kernels]

    def solve_in(
        self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int, norm: InputNorm
    ) -> tuple[Solution[Any], float]:
        """Decompose the ``kernel`` of one group in the norm of its inputs; also its relative error in that norm."""
        weighed = self.solve(norm.weigh(kernel), spec, rank, seed)
        factors, stability = self.unweigh(weighed.factors, norm), weighed.stability
        if isinstance(factors, CPTensor):
            stability = Stability.of(factors, float(kernel.double().norm()))
        return replace(weighed, factors=factors, stability=stability), weighed.relative_error

    def unweigh(self, factors: Any, norm: InputNorm) -> Any:
        """The factors of a kernel from those of ``norm.weigh(kernel)``."""
        return norm.unweigh(factors)

    def weights(self, factors: Any, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """The factors of one group as weights of :meth:`chain`, each shaped as its stage says."""
        parts = zip(self.parts(factors, spec, rank), self.chain(spec, rank), strict=True)
        return tuple(part.reshape(stage.weight_shape) for part, stage in parts)

    @abstractmethod
    def parts(self, factors: Any, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """The weights of the stages with their axes in order (outputs, inputs, window), in any shape."""


def _wide_enough(kernel: Tensor) -> Tensor:
    """``kernel``, in float64 where its own type could not hold the factors on their way: half and shorter, or huge."""
    if kernel.dtype in (torch.float32, torch.float64) and not float(kernel.detach().abs().max()) > 1e30:
        return kernel
    return kernel.double()


def energies_after(matrices: Sequence[Tensor], cuts: Sequence[Sequence[int]]) -> Tensor:
    """``sum of s_k^2 over k > cut`` for every matrix and each of its ``cuts``: matrices x cuts, float64."""
    rows = []
    for matrix, wanted in zip(matrices, cuts, strict=True):
        energy = singular_values(matrix).square().cpu()
        tails = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
        rows.append(tails[torch.tensor(wanted).clamp_max(len(energy))])
    return torch.stack(rows)


def stability_of_groups(groups: Sequence[CPTensor], kernel: Tensor) -> Stability | None:
    """Stability of the factors of ``K / ||K||`` where the groups of K have a CP each; None where there is none.

    Noise in the factors of one group does not meet another group, so what the definition measures adds up. Terms of
    different groups cannot cancel, so the intensity ratio is the largest within a group.
    """
    if not groups:
        return None
    norm = float(kernel.detach().double().norm())
    parts = [Stability.of(cp, norm) for cp in groups]
    return Stability(
        sum(part.sensitivity for part in parts),
        sum(part.sensitivity_lemma for part in parts),
        sum(part.sum_squared_intensity for part in parts),
        max(part.intensity_ratio for part in parts),
    )
