"""The axes of a window, for formats that treat each of them in a stage of its own."""

from __future__ import annotations

from polyadic.schema import ConvSpec


def window_axes(spec: ConvSpec) -> tuple[int, ...]:
    """Axes along which the window has more than one tap."""
    return tuple(axis for axis, taps in enumerate(spec.kernel) if taps > 1)


def axes_apart(spec: ConvSpec) -> tuple[tuple[int, ...], ...]:
    """One set of axes for each of :func:`window_axes`; the first takes those of one tap, with their stride, along."""
    first, *rest = window_axes(spec)
    flat = tuple(axis for axis, taps in enumerate(spec.kernel) if taps == 1)
    return (tuple(sorted((first, *flat))), *((axis,) for axis in rest))
