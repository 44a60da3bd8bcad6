"""The axes of a window, for formats that treat each of them in a stage of its own."""

from __future__ import annotations

from torch import Tensor

from polyadic.schema import ConvSpec


def window_axes(spec: ConvSpec) -> tuple[int, ...]:
    """Axes along which the window has more than one tap, in the order in which stages for them cost least.

    A stage along an axis of D taps and stride s leaves 1 / s of the positions. Of two axes a and b the first one costs
    ``D_a / s_a`` and the second ``D_b / (s_a s_b)`` for each position of the input, so a comes before b where
    ``(s_a - 1) / D_a`` is larger. A transposed stage leaves s times as many: there it is the smaller one. Equal strides
    along equal windows leave the order of the axes.
    """
    sign = 1 if spec.transposed else -1
    axes = (axis for axis, taps in enumerate(spec.kernel) if taps > 1)
    return tuple(sorted(axes, key=lambda axis: sign * (spec.stride[axis] - 1) / spec.kernel[axis]))


def along_axes(kernel: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A kernel (T x S x window) with these axes of its window alone, in that order; the others have one tap."""
    T, S = kernel.shape[:2]
    others = (axis for axis in range(kernel.ndim - 2) if axis not in axes)
    ordered = kernel.permute(0, 1, *(2 + axis for axis in (*axes, *others)))
    return ordered.reshape(T, S, *(kernel.shape[2 + axis] for axis in axes))


def axes_apart(spec: ConvSpec) -> tuple[tuple[int, ...], ...]:
    """One set of axes for each of :func:`window_axes`; the first takes those of one tap, with their stride, along."""
    first, *rest = window_axes(spec)
    flat = tuple(axis for axis, taps in enumerate(spec.kernel) if taps == 1)
    return (tuple(sorted((first, *flat))), *((axis,) for axis in rest))
