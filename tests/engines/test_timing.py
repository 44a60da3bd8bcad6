from __future__ import annotations

import statistics

import pytest

from polyadic.engines import Timing, time_interleaved


class Clock:
    """Stands still but for the passes, which take as long as they are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slow = 1.0  # by how much the machine is slower at the moment
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, milliseconds: float) -> object:
        def run() -> None:
            self.now += self.slow * milliseconds / 1000.0
            self.log.append(name)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("polyadic.engines.timing.time.perf_counter", clock)
    return clock


def test_medians_are_the_milliseconds_of_one_pass(clock: Clock) -> None:
    passes = {"a": clock.takes("a", 10.0), "b": clock.takes("b", 40.0)}
    found = time_interleaved(passes, rounds=4, seconds=0.0, clock=clock)  # type: ignore[arg-type]
    assert found["a"].median == pytest.approx(10.0)
    assert found["b"].median == pytest.approx(40.0)
    assert list(found) == ["a", "b"]


def test_short_passes_are_repeated_within_a_sample(clock: Clock) -> None:
    found = time_interleaved({"a": clock.takes("a", 0.1)}, rounds=3, seconds=0.0, clock=clock)  # type: ignore[dict-item]
    assert found["a"].median == pytest.approx(0.1)
    warm_up, probe, lead, each = 2000, 1, 40, 20  # 0.2 s, one pass to learn its length, 4 ms untimed, 2 ms
    assert len(clock.log) == pytest.approx(warm_up + probe + 3 * (lead + each), abs=2)


@pytest.mark.parametrize(("rounds", "seconds", "expected"), [(5, 0.0, 5), (1, 1.0, 20)])
def test_rounds_and_seconds_are_both_lower_bounds(clock: Clock, rounds: int, seconds: float, expected: int) -> None:
    passes = {"a": clock.takes("a", 25.0), "b": clock.takes("b", 75.0)}
    found = time_interleaved(passes, rounds=rounds, seconds=seconds, clock=clock)  # type: ignore[arg-type]
    assert len(found["a"].samples) == len(found["b"].samples) == pytest.approx(expected, abs=1)


def test_passes_take_turns_and_every_other_round_is_backwards(clock: Clock) -> None:
    passes = {name: clock.takes(name, 300.0) for name in "abc"}
    time_interleaved(passes, rounds=4, seconds=0.0, clock=clock)  # type: ignore[arg-type]
    assert "".join(clock.log[-12:]) == "abccbaabccba"


def test_ratios_within_a_round_do_not_feel_the_drift_of_the_machine(clock: Clock) -> None:
    fast, slow = clock.takes("fast", 10.0), clock.takes("slow", 30.0)
    turns = 0

    def drifting() -> None:
        nonlocal turns
        turns += 1
        clock.slow = 1.0 + turns // 2  # slower and slower, pair by pair
        fast()  # type: ignore[operator]

    found = time_interleaved({"slow": slow, "fast": drifting}, rounds=21, seconds=0.0, clock=clock)  # type: ignore[dict-item]
    assert max(found["slow"].samples) > 2 * min(found["slow"].samples)
    ratio = found["fast"].times_faster_than(found["slow"])
    assert ratio.median == pytest.approx(3.0, rel=0.1)


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    slow, fast = Timing((10.0, 40.0, 90.0)), Timing((10.0, 10.0, 10.0))
    ratio = fast.times_faster_than(slow)
    assert (ratio.median, ratio.low, ratio.high) == (4.0, 2.5, 6.5)
    back = slow.times_faster_than(fast)
    assert back.median == pytest.approx(0.25)
    twisted = Timing((1.0, 2.0, 3.0)).times_faster_than(Timing((3.0, 2.0, 1.0)))
    assert twisted.median == statistics.median((3.0, 1.0, 1.0 / 3.0))


def test_quartiles_of_one_sample_are_the_sample() -> None:
    assert Timing((2.0,)).quartiles == (2.0, 2.0)
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).quartiles == (2.0, 4.0)


def test_timings_of_different_rounds_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Timing((1.0,)).times_faster_than(Timing((1.0, 2.0)))
