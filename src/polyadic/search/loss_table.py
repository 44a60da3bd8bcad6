"""What each layer alone costs and does at every rank: a few rows are tried, the others follow from the kernel's error.

Of each layer up to three ranks are tried with all other layers dense. In between the loss is read off a curve over the
relative error (:class:`LossCurve`): what an error of a given size does depends on the layer, and little on the format
that made it, so all formats of a layer share their rows. The table serves any budget.

Where errors are not known every rank is tried. Noise and local minima of decompositions can make a dearer rank look
worse than a cheaper one; so the loss of a rank is the least that it or a cheaper one of its format had.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from polyadic.schema import Cost, Measure, Plan, Trial
from polyadic.search.space import Candidate, RankCandidates, SearchSpace, plan_of, single_layer_plan

_ROWS = 3  # of each layer: two ends and what lies between
_SHARES = (0.1, 0.25, 0.5)  # of the dense layer's MACs: where layers end up at budgets from a half to a tenth
_SLIGHT = 0.05  # relative errors below it do next to nothing, and a trial would tell noise
_SLOPES = (2.0, 6.0)  # of a curve: loss per error, both in logarithms
_LEAST = 1e-6  # relative errors below it are rounding
_QUIET = 0.5  # a point that lost nothing may have lost half of the least that could be told


@dataclass(frozen=True)
class Option:
    """One thing that can become of a layer.

    Attributes:
        candidates: in which format; None leaves the layer dense.
        position: at which rank.
        macs: saved against the dense layer.
        params: saved against the dense layer.
        loss: divergence, or points of score where none was measured; or the error of the kernel, where plans are
            compared by that.
        latency: milliseconds saved against the dense layer; 0 where nobody has timed it.
    """

    candidates: RankCandidates | None
    position: int
    macs: int
    params: int
    loss: float
    latency: float = 0.0

    @staticmethod
    def of(candidates: RankCandidates, at: int, loss: float) -> Option:
        """The rank at a position among the candidates."""
        macs, params = (int(candidates.saved(at, measure)) for measure in ("macs", "params"))
        return Option(candidates, at, macs, params, loss, candidates.saved(at, "latency"))

    def saved(self, measure: Measure) -> float:
        """What it saves against the dense layer."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}[measure]


DENSE = Option(None, -1, 0, 0, 0.0)
"""What a layer is that stays as it is."""


def anchors(candidates: RankCandidates) -> list[int]:
    """Positions of the ranks that a table is built on: their errors have to be known, others may be interpolated."""
    last = len(candidates.ranks) - 1
    found = sorted({candidates.within(share * candidates.dense_macs) for share in _SHARES})
    return found if len(found) == _ROWS else sorted({0, last // 2, last})


def probes(space: SearchSpace) -> list[Plan]:
    """The plans that fill the table, layer after layer."""
    return [
        single_layer_plan(candidates, at) for formats in space.by_layer().values() for candidates, at in _rows(formats)
    ]


def missing_probe(space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan]) -> Plan | None:
    """The first plan of the table that nobody has tried or is trying."""
    known = {trial.plan for trial in trials if trial.joint} | set(running)
    return next((plan for plan in probes(space) if plan not in known), None)


def is_complete(space: SearchSpace, trials: Sequence[Trial]) -> bool:
    """Whether every row is there."""
    return missing_probe(space, trials, ()) is None


def options_of(space: SearchSpace, trials: Sequence[Trial]) -> dict[str, list[Option]]:
    """For each layer its options, the dense one first, then by falling cost; those that another beats are left out."""
    losses = {trial.plan: max(trial.loss, 0.0) for trial in trials if trial.joint and len(trial.plan.choices) == 1}
    least = min((loss for loss in losses.values() if 0 < loss < math.inf), default=1.0)
    table = {}
    for layer, formats in space.by_layer().items():
        found = _interpolated(formats, losses, least) if _has_errors(formats) else _measured(formats, losses)
        rising = [DENSE, *sorted(found, key=lambda option: (option.saved(space.measure), option.loss))]
        table[layer] = [option for option in rising if not any(_beats(other, option) for other in rising)]
    return table


def options_cost(space: SearchSpace, options: Iterable[Option]) -> Cost:
    """What the network costs with one option for each layer."""
    macs = params = 0
    latency = 0.0
    for option in options:
        macs, params, latency = macs + option.macs, params + option.params, latency + option.latency
    return space.cost_after(macs, params, latency)


def options_plan(options: Iterable[Option]) -> Plan:
    """The plan of one option for each layer."""
    return plan_of((option.candidates, option.position) for option in options if option.candidates is not None)


@dataclass(frozen=True)
class LossCurve:
    """What an error of a layer does to the answers, from a few measured points: a broken line in logarithms of both.

    The divergence of the answers grows like a power of a kernel's error, and which power differs from layer to layer
    (two to eight in a ResNet-20, four in the middle). So between two points the line is straight in the logarithms, and
    beyond the last ones it goes on at the slope of the whole, between the second power (that of any divergence near
    zero) and the sixth.

    Attributes:
        points: of finite loss above 0, as logarithms of error and loss, both rising.
        ruin: from this relative error on the loss is infinite.
        slope: beyond the ends.
    """

    points: tuple[tuple[float, float], ...]
    ruin: float = math.inf
    slope: float = _SLOPES[0]

    @staticmethod
    def of(measured: Iterable[tuple[float, float]], least: float) -> LossCurve:
        """From pairs of relative error and loss, in any order.

        An error loses no more than a larger one did: the difference is noise, or a local minimum of a decomposition. A
        loss of 0 says that it is too small to be told, and that depends on what ``least`` can be.

        Args:
            measured: losses of 0 and infinite ones are allowed.
            least: the smallest loss above 0 of all layers.
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
        """Loss at a relative error; 0 where the error is 0."""
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


def _rows(formats: Sequence[RankCandidates]) -> list[Candidate]:
    """What is tried of one layer: every rank, or the ends and the middle of what errors there are to choose from."""
    if not _has_errors(formats):
        return [(candidates, at) for candidates in formats for at in range(len(candidates.ranks))]
    known = [(_errors(candidates)[at], candidates, at) for candidates in formats for at in anchors(candidates)]
    if len(formats) > 1:
        known = [
            row
            for row in known
            if not any(error < row[0] and other.macs[at] <= row[1].macs[row[2]] for error, other, at in known)
        ]
    falling = sorted(known, key=lambda row: -row[0])
    worth = [row for row in falling if row[0] >= _SLIGHT] or falling[:1]
    last = len(worth) - 1
    chosen = sorted({0, last // 2, last}) if last >= _ROWS else range(last + 1)
    return [worth[at][1:] for at in chosen]


def _has_errors(formats: Sequence[RankCandidates]) -> bool:
    return all(candidates.errors is not None for candidates in formats)


def _errors(candidates: RankCandidates) -> list[float]:
    """At each rank, no more than at a cheaper one."""
    return [*itertools.accumulate(candidates.errors or (), min)]


def _measured(formats: Sequence[RankCandidates], losses: Mapping[Plan, float]) -> list[Option]:
    found = []
    for candidates in formats:
        rows = [losses[single_layer_plan(candidates, at)] for at in range(len(candidates.ranks))]
        found += [Option.of(candidates, at, loss) for at, loss in enumerate(itertools.accumulate(rows, min))]
    return found


def _interpolated(formats: Sequence[RankCandidates], losses: Mapping[Plan, float], least: float) -> list[Option]:
    ranked = [(candidates, at, error) for candidates in formats for at, error in enumerate(_errors(candidates))]
    tried = [
        (error, losses[plan])
        for candidates, at, error in ranked
        if (plan := single_layer_plan(candidates, at)) in losses
    ]
    curve = LossCurve.of(tried, least)
    return [Option.of(candidates, at, curve(error)) for candidates, at, error in ranked]


def _beats(other: Option, option: Option) -> bool:
    """Whether it saves no less and loses less."""
    no_less = other.macs >= option.macs and other.params >= option.params and other.latency >= option.latency
    return no_less and other.loss < option.loss
