"""Axes: round numbers between two bounds, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Axis:
    """Maps values from ``low`` to ``high`` to places from ``start`` to ``end``, by their logarithm if ``log``."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where ``value`` stands."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)


def linear_axis(values: list[float], start: float, end: float, *, ticks: int = 5, from_zero: bool = False) -> Axis:
    """An axis over all ``values`` with about ``ticks`` steps of 1, 2 or 5 times a power of ten; whole if they are."""
    low, high = min(values), max(values)
    whole = all(float(value).is_integer() for value in values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = abs(high) * 0.01 or 1.0
        low, high = (low if from_zero and low == 0 else low - margin), high + margin
    step = _round_step((high - low) / ticks)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(step * count for count in range(first, last + 1))
    return Axis(marks[0], marks[-1], start, end, marks)


def log_axis(values: list[float], start: float, end: float, *, most: int = 8) -> Axis:
    """An axis over positive ``values``, by decades, of which about ``most`` have a number."""
    first = math.floor(math.log10(min(values)) + 1e-9)
    last = max(math.ceil(math.log10(max(values)) - 1e-9), first + 1)
    every = math.ceil((last - first) / most)
    marks = tuple(10.0**power for power in range(first, last + 1, every))
    return Axis(10.0**first, 10.0**last, start, end, marks, log=True)


def value_axis(values: list[float], start: float, end: float, *, apart: float = 26.0) -> Axis:
    """A logarithmic axis over positive ``values``, numbered by values that stand at least ``apart`` units apart."""
    known = sorted(set(values))
    axis = Axis(known[0] / 1.15, known[-1] * 1.15, start, end, (), log=True)
    ticks: list[float] = []
    for value in reversed(known):  # the largest one always has its number
        if not ticks or axis.place(ticks[-1]) - axis.place(value) >= apart:
            ticks.append(value)
    return replace(axis, ticks=tuple(reversed(ticks)))


def written(value: float) -> str:
    """A number for an axis: 1.5M, 20k, 0.25."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
