"""The interface of a format: the bridge between a decomposition and a chain of layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from torch import Tensor

from polyadic.algebra import CP
from polyadic.decomposition import InputNorm, Solution, Stability
from polyadic.errors import LayerError
from polyadic.formats.factored_kernel import FactoredKernel, error_of
from polyadic.schema import ConvSpec, Rank, plain_rank


class Format(ABC):
    """One way to write a kernel as a chain of plain layers. Implementations are frozen dataclasses, one file each."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in plans and on the command line, such as "cp-epc"."""

    @property
    def weighs_window(self) -> bool:
        """Whether the factors can be weighed over the window and the outputs too, not over the inputs alone."""
        return False

    @abstractmethod
    def refuses(self, spec: ConvSpec) -> str | None:
        """Why this format cannot serve such a layer, in one sentence; None if it can."""

    @abstractmethod
    def largest_rank(self, spec: ConvSpec) -> Rank:
        """The ranks beyond which nothing is gained: there the chain equals the layer exactly."""

    @abstractmethod
    def stages(self, spec: ConvSpec, rank: Rank) -> tuple[ConvSpec, ...]:
        """The chain for a rank, in integers alone."""

    @abstractmethod
    def ladder(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """Ranks in the order of growing cost and falling error, for a search to climb."""

    @abstractmethod
    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[Any]:
        """Decompose ``kernel`` (T x S x window)."""

    @abstractmethod
    def weights(self, factors: Any, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """The factors as weights of :meth:`stages`."""

    def factorise(
        self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int = 0, norm: InputNorm | None = None
    ) -> FactoredKernel:
        """Decompose ``kernel`` (T x S x window) and lower it to a chain; the error is measured on the chain itself.

        Args:
            kernel: the weight of the layer.
            spec: its geometry.
            rank: rank or ranks.
            seed: of the decomposition.
            norm: of the layer's inputs, in which the error is then made small; the plain norm when absent.

        Raises:
            LayerError: the format refuses the layer, the rank is out of bounds, or the kernel is not the layer's.
            DecompositionError: NaN or Inf weights.
        """
        self.check(spec, rank)
        if tuple(kernel.shape) != spec.weight_shape:
            raise LayerError(f"the layer's weight has shape {spec.weight_shape}; got a kernel {tuple(kernel.shape)}")
        if norm is not None:
            norm = (norm if self.weighs_window else norm.channels_only()).to(kernel.device)
        solution = self.solve(kernel if norm is None else norm.weigh(kernel), spec, rank, seed)
        factors, stability = solution.factors, solution.stability
        if norm is not None:
            factors = norm.unweigh(factors)
            if isinstance(factors, CP):
                stability = Stability.of(factors, float(kernel.double().norm()))
        weights = tuple(weight.to(kernel).contiguous() for weight in self.weights(factors, spec, rank))
        chain = FactoredKernel(
            self.name,
            rank,
            self.stages(spec, rank),
            weights,
            0.0,
            solution.stop.value,
            stability.sensitivity if stability else None,
            stability.intensity_ratio if stability else None,
            solution.relative_error if norm is not None else None,
        )
        return replace(chain, relative_error=error_of(kernel, chain))

    def refitted(self, factored: FactoredKernel, last: Tensor, kernel: Tensor) -> FactoredKernel:
        """``factored`` with ``last`` as the weight of its last stage; its error is that against ``kernel``."""
        weights = (*factored.weights[:-1], last.to(factored.weights[-1]).contiguous())
        chain = replace(factored, weights=weights)
        return replace(chain, relative_error=error_of(kernel, chain))

    def check(self, spec: ConvSpec, rank: Rank) -> None:
        """Refuse what cannot be built.

        Raises:
            LayerError: the format refuses the layer, or the rank is out of bounds.
        """
        reason = self.refuses(spec)
        if reason:
            raise LayerError(f"{self.name} cannot be used here: {reason}")
        largest = self.largest_rank(spec)
        shape = " x ".join(str(size) for size in spec.weight_shape)
        if len(rank) != len(largest):
            raise LayerError(f"{self.name} takes {len(largest)} rank(s) for a {shape} layer; got {plain_rank(rank)}")
        if any(not 1 <= value <= most for value, most in zip(rank, largest, strict=True)):
            raise LayerError(
                f"{self.name} rank {plain_rank(rank)} is out of bounds for a {shape} layer: "
                f"ranks lie between 1 and {plain_rank(largest)}"
            )


def refuse_groups(spec: ConvSpec) -> str | None:
    """The reason that all present formats share."""
    if spec.groups == 1:
        return None
    if spec.groups == spec.in_channels:
        return "a depthwise convolution has no channel mixing left to factorise"
    return (
        f"a grouped convolution (groups = {spec.groups}) needs one set of factors per group, which is not supported yet"
    )
