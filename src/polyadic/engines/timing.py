"""Times that can be compared: all passes take turns, and what is told are medians and ratios within a round.

A machine's speed drifts while one measures. What runs in turn drifts alike, so the ratio of two times of one round is
steadier than either of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_WARM_UP_S = 0.2
_LEAD_S = 0.004  # of untimed passes right before a sample
_SAMPLE_S = 0.002  # passes shorter than this are repeated within a sample, so that the clock's own cost is small


@dataclass(frozen=True)
class Timing:
    """Times of one pass in milliseconds, one per round.

    Attributes:
        samples: in the order of the rounds.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Milliseconds of one pass."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the samples lies below the first, another above the second."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    def times_faster_than(self, other: Timing) -> Ratio:
        """The median over rounds of ``other``'s time divided by this one's."""
        ratios = Timing(tuple(b / a for a, b in zip(self.samples, other.samples, strict=True)))
        return Ratio(ratios.median, *ratios.quartiles)


@dataclass(frozen=True)
class Ratio:
    """A ratio of times, and its quartiles over the rounds."""

    median: float
    low: float
    high: float


def time_interleaved(
    passes: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several passes in turns.

    Args:
        passes: by name; each call is one pass that has ended when it returns.
        rounds: at least so many rounds, in each of which every pass gives one sample; every other round backwards.
        seconds: go on with further rounds until so much time is used for every pass.
        clock: tells seconds; ``time.process_time`` leaves out what other programs take, on one thread.

    Returns:
        The times of each pass, as many of one as of the other.
    """
    turns = {name: _turn(run, clock) for name, run in passes.items()}
    samples: dict[str, list[float]] = {name: [] for name in passes}
    began, order = time.perf_counter(), list(passes)
    while len(samples[order[0]]) < rounds or time.perf_counter() - began < seconds * len(passes):
        for name in order:
            samples[name].append(turns[name].sample())
        order.reverse()
    return {name: Timing(tuple(values)) for name, values in samples.items()}


@dataclass(frozen=True)
class _Turn:
    """What is run in one turn: ``leads`` passes untimed, ``repeats`` timed.

    After the turn of another network the threads of this one sleep and its weights are out of the caches. A server that
    runs one network meets neither, so short passes are led in. Without that, small chains look faster than they are.
    """

    run: Callable[[], object]
    clock: Callable[[], float]
    leads: int
    repeats: int

    def sample(self) -> float:
        """Milliseconds of one pass."""
        for _ in range(self.leads):
            self.run()
        began = self.clock()
        for _ in range(self.repeats):
            self.run()
        return 1000.0 * (self.clock() - began) / self.repeats


def _turn(run: Callable[[], object], clock: Callable[[], float]) -> _Turn:
    """Warm up, and find how many passes lead in and how many make a sample that is long enough."""
    began, passes = time.perf_counter(), 0
    while passes < 2 or time.perf_counter() - began < _WARM_UP_S:
        run()
        passes += 1
    seconds = _Turn(run, clock, 0, 1).sample() / 1000.0 + 1e-9
    leads = round(_LEAD_S / seconds)  # none where a pass is so long that its beginning hardly counts
    return _Turn(run, clock, leads, max(1, round(_SAMPLE_S / seconds)))
