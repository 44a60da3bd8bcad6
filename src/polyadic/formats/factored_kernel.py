"""A kernel as a chain of plain layers with weights, whatever format made it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from polyadic.algebra import TTMatrixTensor
from polyadic.errors import LayerError
from polyadic.schema import ConvSpec, Rank, Stage, TTSpec

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class FactoredKernel:
    """What a format hands to the layers, to the cache and to the report.

    Attributes:
        format: name of the format.
        rank: its rank or ranks.
        stages: the chain, first layer first; the bias of the dense layer belongs to the last one.
        weights: one weight per stage, shaped ``stage.weight_shape``: kernels, T x S/groups x window whatever torch
            stores, and the cores of a tensor train in one row.
        relative_error: ``||K - K^|| / ||K||`` of the weights as they are stored.
        stop: why the solver stopped, as a sentence.
        sensitivity: true sensitivity of the factors of ``K / ||K||`` (CP formats only).
        intensity_ratio: largest over smallest intensity (CP formats only).
        weighted_error: the relative error in the norm of the layer's inputs, if it was decomposed in that.
    """

    format: str
    rank: Rank
    stages: tuple[Stage, ...]
    weights: tuple[Tensor, ...]
    relative_error: float
    stop: str
    sensitivity: float | None = None
    intensity_ratio: float | None = None
    weighted_error: float | None = None

    def dense_kernel(self) -> Tensor:
        """The kernel of the layer that equals the chain: T x S/groups x window, by feeding it one impulse per channel.

        Two cross-correlations in a row have as kernel the true convolution of theirs, so every stage is applied
        flipped and fully padded; stride, dilation and transposition do not enter, since only one stage per axis has an
        extent. Groups do not meet, so one channel of each is fed at a time.

        Raises:
            ValueError: a stage that joins the groups of the first one.
        """
        first, axes = self.stages[0], max(self.stages[0].axes, 1)
        response = _as_window(_kernel(first, self.weights[0]), axes).transpose(0, 1)  # channel s is sample s
        for stage, weight in zip(self.stages[1:], self.weights[1:], strict=True):
            if stage.groups % first.groups:
                raise ValueError(f"the groups of a chain's first stage stay apart in all; got {self.stages}")
            kernel = _as_window(_kernel(stage, weight), axes)
            if stage.groups == 1 and response.shape[2:].numel() == 1:  # a mere mixing of channels, and by far faster so
                response = torch.einsum("sr,qr...->sq...", response.flatten(1), kernel)
                continue
            flipped = kernel.flip(tuple(range(2, 2 + axes)))
            padding = [size - 1 for size in kernel.shape[2:]]
            response = _CONVOLUTIONS[axes](response, flipped, padding=padding, groups=stage.groups)
        dense = response.transpose(0, 1)
        return dense.flatten(1) if first.axes == 0 else dense


def _kernel(stage: Stage, weight: Tensor) -> Tensor:
    return weight if isinstance(stage, ConvSpec) else contract_train(stage, split_cores(stage, weight))


def _as_window(weight: Tensor, axes: int) -> Tensor:
    """A weight with its spatial axes; a matrix gets windows of size 1."""
    return weight.reshape(*weight.shape, *([1] * axes)) if weight.ndim == 2 else weight


def error_of(kernel: Tensor, factored: FactoredKernel) -> float:
    """``||K - K^|| / ||K||`` in float64, from the chain's weights as they are stored."""
    K = kernel.detach().double()
    weights = tuple(weight.detach().double() for weight in factored.weights)
    rebuilt = replace(factored, weights=weights).dense_kernel()
    norm, residual = K.norm(), (K - rebuilt.reshape(K.shape)).norm()
    return float(residual / norm) if float(norm) > 0 else float(torch.as_tensor(residual))


def weights_in_range(stages: Sequence[Stage], weights: Sequence[Tensor], like: Tensor) -> tuple[Tensor, ...]:
    """``weights`` in the dtype of ``like``; where one would leave its range, all carry the same part of the scale.

    A chain is linear in each of its stages (and of its cores), so factors whose product is 1 may go from one to
    another; powers of two lose no digit.

    Raises:
        LayerError: the range is too narrow however the scale is divided.
    """
    rounded = tuple(weight.to(like).contiguous() for weight in weights)
    if all(_fits(weight, piece) for weight, piece in zip(weights, rounded, strict=True)):
        return rounded
    parts = [
        list(split_cores(stage, weight.double())) if isinstance(stage, TTSpec) else [weight.double()]
        for stage, weight in zip(stages, weights, strict=True)
    ]
    largest = torch.stack([part.abs().max() for group in parts for part in group]).clamp_min(1e-300).log2()
    shifts = (largest.mean() - largest).round()
    shifts[-1] -= shifts.sum()
    scaled = iter(2.0**shift for shift in shifts.tolist())
    balanced = [torch.cat([(next(scaled) * part).flatten() for part in group]) for group in parts]
    result = tuple(M.reshape(w.shape).to(like).contiguous() for M, w in zip(balanced, weights, strict=True))
    if not all(bool(torch.isfinite(weight.double()).all()) for weight in result):
        raise LayerError(
            f"the factors of this kernel leave the range of {like.dtype} (up to {torch.finfo(like.dtype).max:.3g}), "
            "also with their scale spread over the stages: convert the layer to float32 first"
        )
    return result


def _fits(weight: Tensor, rounded: Tensor) -> bool:
    """Whether no entry became infinite, and the largest one is not below the normal numbers of the type."""
    largest, kept = float(weight.detach().abs().max()), float(rounded.detach().double().abs().max())
    return math.isfinite(kept) and (largest == 0.0 or kept >= torch.finfo(rounded.dtype).tiny)


def contract_train(spec: TTSpec, cores: Sequence[Tensor]) -> Tensor:
    """The kernel T x S x window (T x S for a Linear) that ``cores`` are a matrix tensor train of."""
    W = TTMatrixTensor(tuple(cores)).full()  # (D^2 rows) x columns
    T, S = spec.out_channels, spec.in_channels
    kernel = W.reshape(spec.dense.taps, -1, W.shape[1])[:, :T, :S].permute(1, 2, 0)
    return kernel.reshape(T, S, *spec.dense.kernel)


def split_cores(spec: TTSpec, row: Tensor) -> tuple[Tensor, ...]:
    """The cores from one row of numbers (:attr:`TTSpec.weight_shape`)."""
    shapes = spec.core_shapes
    ends = itertools.accumulate(math.prod(shape) for shape in shapes)
    return tuple(row[end - math.prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True))
