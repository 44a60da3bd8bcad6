"""What an error of a layer does to the answers, from a few measured points: a broken line in the logarithms of both.

The divergence of the answers grows like a power of a kernel's error, and which power differs from layer to layer (two
to eight in a ResNet-20, four in the middle). So between two points the line is straight in the logarithms, and beyond
the last ones it goes on at the slope of the whole, between the second power (that of any divergence near zero) and the
sixth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

_SLOPES = (2.0, 6.0)  # harm per error, both in logarithms
_LEAST = 1e-6  # relative errors below it are rounding
_QUIET = 0.5  # a point that harmed nothing may have done half of the least that could be told


@dataclass(frozen=True)
class LossCurve:
    """Harm over relative error; rises with the error.

    Attributes:
        points: of finite harm above 0, as logarithms of error and harm, both rising.
        ruin: from this relative error on harm is infinite.
        slope: beyond the ends.
    """

    points: tuple[tuple[float, float], ...]
    ruin: float = math.inf
    slope: float = _SLOPES[0]

    @staticmethod
    def of(measured: Iterable[tuple[float, float]], least: float) -> LossCurve:
        """From pairs of relative error and harm, in any order.

        An error harms no more than a larger one did: the difference is noise, or a local minimum of a decomposition. A
        harm of 0 says that it is too small to be told, and that depends on what ``least`` can be.

        Args:
            measured: harms of 0 and infinite ones are allowed.
            least: the smallest harm above 0 of all layers.
        """
        falling = sorted(((max(error, _LEAST), loss) for error, loss in measured), reverse=True)
        ruin, lowest = math.inf, math.inf
        known: list[tuple[float, float]] = []
        for error, loss in falling:
            lowest = min(lowest, loss)
            if lowest == math.inf:
                ruin = error
            elif not known or error < known[-1][0]:
                known.append((error, lowest))
            else:
                known[-1] = (error, lowest)
        loud = [(math.log(error), math.log(loss)) for error, loss in known if loss > 0]
        quiet = [math.log(error) for error, loss in known if loss <= 0][:1]  # the largest error that did nothing
        if quiet:
            floor = math.log(least * _QUIET)
            beside = min((y - _SLOPES[0] * (x - quiet[0]) for x, y in loud), default=floor)
            loud.append((quiet[0], min(floor, beside)))
        rising = tuple(reversed(loud))
        return LossCurve(rising, ruin, _slope(rising))

    def __call__(self, error: float) -> float:
        """Harm at a relative error; 0 where the error is 0."""
        if error >= self.ruin:
            return math.inf
        if error <= 0.0 or not self.points:
            return 0.0
        x = math.log(max(error, _LEAST))
        at = bisect_left(self.points, (x, -math.inf))
        if 0 < at < len(self.points):
            (x0, y0), (x1, y1) = self.points[at - 1 : at + 1]
            return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        x0, y0 = self.points[min(at, len(self.points) - 1)]
        return math.exp(min(y0 + self.slope * (x - x0), 700.0))


def _slope(points: tuple[tuple[float, float], ...]) -> float:
    """Of the line from the first point to the last one, within reason."""
    if len(points) < 2:
        return _SLOPES[0]
    (x0, y0), (x1, y1) = points[0], points[-1]
    return min(max((y1 - y0) / (x1 - x0), _SLOPES[0]), _SLOPES[1])
