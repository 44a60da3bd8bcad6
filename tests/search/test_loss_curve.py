from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyadic.search.loss_table import LossCurve

HARMS = st.one_of(st.floats(0, 100), st.just(0.0), st.just(math.inf))
POINTS = st.lists(st.tuples(st.floats(0, 1), HARMS), min_size=1, max_size=6)
ERRORS = st.lists(st.floats(0, 1.5), min_size=2, max_size=8).map(sorted)


def test_two_points_of_a_power_give_it_back_everywhere() -> None:
    curve = LossCurve.of([(0.2, 3 * 0.2**4), (0.5, 3 * 0.5**4)], least=1e-3)
    for error in (0.01, 0.2, 0.3, 0.5, 0.9):
        assert curve(error) == pytest.approx(3 * error**4)
    assert curve(0.0) == 0.0


def test_a_single_point_goes_on_quadratically() -> None:
    assert LossCurve.of([(0.4, 0.1)], least=0.1)(0.2) == pytest.approx(0.025)


@given(POINTS, ERRORS)
def test_it_never_falls_and_is_never_below_nothing(points: list[tuple[float, float]], errors: list[float]) -> None:
    curve = LossCurve.of(points, least=1e-3)
    losses = [curve(error) for error in errors]
    assert all(loss >= 0 for loss in losses)
    assert all(one <= other * (1 + 1e-9) for one, other in itertools.pairwise(losses))


def test_noise_that_would_make_it_fall_is_flattened() -> None:
    curve = LossCurve.of([(0.2, 0.01), (0.3, 0.5), (0.4, 0.1), (0.6, 0.9)], least=0.01)
    assert curve(0.3) == pytest.approx(0.1)
    assert curve(0.2) == pytest.approx(0.01)


def test_a_loss_of_nothing_is_one_that_could_not_be_told() -> None:
    curve = LossCurve.of([(0.1, 0.0), (0.2, 0.0), (0.4, 1.0)], least=0.1)
    assert curve(0.2) == pytest.approx(0.05)  # half of what could be told
    assert 0 < curve(0.1) < curve(0.2)  # so the error still decides
    steep = LossCurve.of([(0.35, 0.0), (0.4, 0.1)], least=0.1)
    assert steep(0.35) == pytest.approx(0.05)
    quiet = LossCurve.of([(0.3, 0.0)], least=0.1)
    assert quiet(0.15) == pytest.approx(0.05 / 4)


def test_what_ruins_a_network_ruins_it_at_every_larger_error() -> None:
    curve = LossCurve.of([(0.2, 0.1), (0.5, math.inf), (0.6, 2.0)], least=0.1)
    assert math.isfinite(curve(0.5)), "a larger error did less"
    curve = LossCurve.of([(0.2, 0.1), (0.5, math.inf)], least=0.1)
    assert curve(0.5) == math.inf
    assert math.isfinite(curve(0.49))
    assert LossCurve.of([(0.5, math.inf)], least=0.1)(0.7) == math.inf
