"""Times between measured ones, over the multiply-accumulates of a chain."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping


def interpolate_time(known: Mapping[int, float], macs: int) -> float:
    """A value on straight lines between known points, flat beyond the ends.

    Args:
        known: values by multiply-accumulates.
        macs: where the value is asked for; at a known point it is the known value.

    Raises:
        ValueError: nothing is known.
    """
    if not known:
        raise ValueError("a curve goes through at least one measured point; got none")
    points = sorted(known)
    at = bisect_left(points, macs)
    if at == 0 or at == len(points):
        return known[points[min(at, len(points) - 1)]]
    low, high = points[at - 1], points[at]
    share = (macs - low) / (high - low)
    return known[low] + share * (known[high] - known[low])
