"""Fit one layer to what it is to answer: the norm of its inputs, its kernel corrected, its chain refitted."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm, PatchMoments, fitted_bias, fitted_kernel
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.formats.factored_kernel import error_of
from polyadic.layers import Inputs, call_model, change_tensors, first_samples, tensors_in
from polyadic.schema import Choice, ConvSpec, Stage
from polyadic.surgery.fast_path import unfused_attention
from polyadic.surgery.forward_record import record_forward
from polyadic.surgery.lockstep import LayerInputs
from polyadic.surgery.patches import patch_rows, some_positions
from polyadic.surgery.plain_layers import geometry_of, is_computed
from polyadic.surgery.replace import chain_for

GRAM_OPERATIONS = 3e11  # multiply-accumulates that one covariance may take: some seconds on two cores

RIDGE, REFIT_RIDGE = 0.03, 0.001  # on held-out images of CIFAR-10, ResNet-56 (docs/algorithms/data-aware.md)
PLENTY = 50_000  # positions from which on the ridges need not grow


@dataclass(frozen=True)
class SequentialOptions:
    """What each layer is fitted to, and how firmly.

    Attributes:
        norm: of the decomposition: "patches" (channels and window), "channels", or "plain".
        inputs: whose inputs that norm is taken of, the "compressed" network's or the "dense" one's.
        correct: correct the kernel for the compressed inputs before it is decomposed.
        refit: fit the last stage and the bias of the chain to the dense output.
        repair: aim at the dense sum where the output is added to a shortcut.
        correct_dense: correct layers that stay dense too, but for those whose weight is parametrised.
        ridge: added to the covariance of the patches, in units of their mean variance. None: 0.03, and more in
            proportion where there are fewer than 50000 positions, so that ten images are enough.
        refit_ridge: the same for the features before the last stage. None: a thirtieth of that.
        positions: most output positions that moments are taken over.
        largest_patch: beyond this many numbers, patches are too large for a matrix of their covariance: the norm is
            that of the channels, and the kernel is not corrected (its last stage is still refitted).
        memory: most bytes that the tensors of one pass may take; fewer images are used where it would be more.
        seed: of the positions.
    """

    norm: Literal["patches", "channels", "plain"] = "patches"
    inputs: Literal["compressed", "dense"] = "compressed"
    correct: bool = True
    refit: bool = True
    repair: bool = True
    correct_dense: bool = True
    ridge: float | None = None
    refit_ridge: float | None = None
    positions: int = 65536
    largest_patch: int = 5000
    memory: float = 4e9
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse ridges, counts and names that are none."""
        if self.norm not in ("patches", "channels", "plain") or self.inputs not in ("compressed", "dense"):
            raise LayerError(f"norm and inputs are names listed in SequentialOptions; got {self.norm}, {self.inputs}")
        if not (self.ridge_for(1) > 0 and self.refit_ridge_for(1) >= 0):
            raise LayerError(f"ridges are above 0 (refit_ridge may be 0); got {self.ridge} and {self.refit_ridge}")
        if self.positions < 1:
            raise LayerError(f"moments take at least one position; got {self.positions}")

    def affordable(self, inputs: Inputs, largest: int) -> Inputs:
        """As many samples as fit into memory, where a pass holds ``largest`` numbers of each in one tensor.

        About four tensors of that size are alive at a time. Two-dimensional images come back channels last, in which
        convolutions on processors are fastest.
        """
        size = max((t.element_size() for t in tensors_in(inputs) if t.is_floating_point()), default=4)
        kept = first_samples(inputs, max(int(self.memory / (4 * size * max(largest, 1))), 2))
        return change_tensors(kept, lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)

    def ridge_for(self, positions: int) -> float:
        """The ridge of moments over that many positions."""
        return self.ridge if self.ridge is not None else RIDGE * max(1.0, PLENTY / max(positions, 1))

    def refit_ridge_for(self, positions: int) -> float:
        """The ridge of the refit."""
        if self.refit_ridge is not None:
            return self.refit_ridge
        return REFIT_RIDGE * max(1.0, PLENTY / max(positions, 1))

    def positions_for(self, spec: ConvSpec) -> int:
        """How many positions the covariance of this layer's patches may take: n P^2 operations."""
        return max(min(self.positions, int(GRAM_OPERATIONS / (spec.in_channels * spec.taps) ** 2)), 1)

    def can_refit(self, stage: Stage) -> TypeGuard[ConvSpec]:
        """Whether the last ``stage`` of a chain is a plain layer with features few enough for their covariance."""
        if not isinstance(stage, ConvSpec) or stage.transposed:
            return False
        return stage.groups == 1 and stage.in_channels * stage.taps <= self.largest_patch


def input_norms(
    model: nn.Module, layers: Iterable[str], inputs: Inputs, options: SequentialOptions | None = None
) -> dict[str, InputNorm]:
    """The norm of each layer's inputs, from one forward pass over a batch of ``inputs``.

    A layer that runs several times has that of its first run; one that does not run, or whose channels are too many
    for a matrix of their covariance, has none.

    Raises:
        DecompositionError: NaN or Inf among the inputs.
    """
    options, names = options or SequentialOptions(), list(layers)
    norms: dict[str, InputNorm] = {}

    def ran(name: str, layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        spec = geometry_of(layer)
        if name not in norms and spec is not None and spec.groups == 1:
            norm = norm_of(given[0], output, spec, options)
            norms.update({name: norm} if norm is not None else {})

    largest = record_forward(model, first_samples(inputs, 1), names).largest
    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(partial(ran, name)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(unfused_attention())
        call_model(model, options.affordable(inputs, largest))
    return norms


def norm_of(x: Tensor, output: Tensor, spec: ConvSpec, options: SequentialOptions) -> InputNorm | None:
    """The norm of the inputs ``x`` of one layer; of its channels alone where whole patches are too large.

    A transposed layer has no patches: its window spreads each position by itself.
    """
    if spec.in_channels > options.largest_patch:
        return None
    if spec.transposed or spec.in_channels * spec.taps > options.largest_patch:
        spec, output = ConvSpec.pointwise(spec.in_channels, spec.in_channels, spec.axes), x
    chosen = some_positions(output, spec, options.positions_for(spec), options.seed)
    moments = PatchMoments.of(patch_rows(x, output, spec, chosen))
    norm = InputNorm.of_patches(moments, spec.taps, options.ridge_for(moments.count))
    return norm if options.norm == "patches" else norm.channels_only()


@dataclass(frozen=True, eq=False)
class LayerFit:
    """One layer, to be fitted to a target.

    Attributes:
        layer: the dense one.
        weight: its kernel (T x S/groups x window).
        spec: its geometry.
        seen: its inputs in both networks.
        target: what its successor is to answer from the compressed network's, shaped as the output.
        positions: of the output, where moments are taken.
        takes_bias: whether the layer, or the batch norm that follows it, has a place for a bias.
        options: what is fitted, and how firmly.
    """

    layer: nn.Module
    weight: Tensor
    spec: ConvSpec
    seen: LayerInputs
    target: Tensor
    positions: Tensor
    takes_bias: bool
    options: SequentialOptions

    def corrected_layer(self) -> tuple[nn.Module, Tensor | None]:
        """The layer for the compressed network's inputs, and its bias; itself where there is nothing to correct."""
        too_large = self.spec.in_channels * self.spec.taps > self.options.largest_patch
        if too_large or is_computed(self.layer) or torch.equal(self.seen.x, self.seen.y):
            return self.layer, None  # a parametrisation cannot be told which weight to compute
        moments = self._moments(self.seen.y, self.spec)
        successor = copy.deepcopy(self.layer)
        kernel = fitted_kernel(self.weight, moments, self.options.ridge_for(moments.count))
        successor.get_parameter("weight").copy_(kernel)
        return successor, self._bias(kernel, moments)

    def kernel_and_norm(self) -> tuple[Tensor, InputNorm | None]:
        """The kernel, corrected if that is asked for, and the norm to decompose it in."""
        options, spec = self.options, self.spec
        if (options.norm == "plain" and not options.correct) or spec.groups > 1:  # each group has a kernel of its own
            return self.weight, None
        x = self.seen.y if options.inputs == "compressed" else self.seen.x
        if spec.transposed or spec.in_channels * spec.taps > options.largest_patch:
            return self.weight, norm_of(x, self.target, spec, options) if options.norm != "plain" else None
        moments = self._moments(x, spec)
        ridge = options.ridge_for(moments.count)
        kernel = fitted_kernel(self.weight, moments, ridge) if options.correct else self.weight
        if options.norm == "plain":
            return kernel, None
        norm = InputNorm.of_patches(moments, spec.taps, ridge)
        return kernel, norm.channels_only() if options.norm == "channels" else norm

    def chain(self, choice: Choice, factored: FactoredKernel) -> tuple[nn.Sequential, FactoredKernel, Tensor | None]:
        """The chain of a factored kernel, its last stage refitted to the target; that kernel, and the bias."""
        chain, last_stage = chain_for(self.layer, factored), factored.stages[-1]
        if not (self.options.refit and self.options.can_refit(last_stage)):
            factored = replace(factored, relative_error=error_of(self.weight, factored))
            return chain, factored, self._bias_for_mean_error(chain) if self.options.refit else None
        moments = self._moments(chain[:-1](self.seen.y), last_stage)
        last = fitted_kernel(factored.weights[-1], moments, self.options.refit_ridge_for(moments.count))
        factored = format_named(choice.format).refitted(factored, last, self.weight)
        factored = replace(factored, weighted_error=moments.output_error(last))
        return chain_for(self.layer, factored), factored, self._bias(last, moments)

    def _moments(self, inputs: Tensor, spec: ConvSpec) -> PatchMoments:
        return PatchMoments.of(patch_rows(inputs, self.target, spec, self.positions), bias=self.takes_bias)

    def _bias(self, kernel: Tensor, moments: PatchMoments) -> Tensor | None:
        return fitted_bias(kernel, moments).to(self.weight) if self.takes_bias else None

    def _bias_for_mean_error(self, chain: nn.Sequential) -> Tensor | None:
        """Of a chain whose last stage is not refitted: at least its mean error goes into the bias."""
        if not self.takes_bias:
            return None
        own, target = chain[-1].get_parameter("bias") if self.spec.bias else None, self.target
        lost = (target - chain(self.seen.y)).to(torch.float64 if target.dtype == torch.float64 else torch.float32)
        axes = [axis for axis in range(lost.ndim) if axis != (1 if self.spec.axes else lost.ndim - 1)]
        mean: Tensor = lost.mean(axes).to(target)
        return mean if own is None else own + mean
