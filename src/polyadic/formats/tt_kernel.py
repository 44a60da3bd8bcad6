"""From the cores of a tensor-train layer to its kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor

from polyadic.algebra import TTMatrixTensor
from polyadic.schema import TTSpec


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
