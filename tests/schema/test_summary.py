"""Figures that a summary derives."""

from __future__ import annotations

import pytest

from polyadic.schema import Cost, Plan, Summary


def summary(macs: int, score: float) -> Summary:
    dense, compressed = Cost(1000, 6000, 4000), Cost(400, macs, 1600)
    return Summary(dense, compressed, 0.93, score, 0.5, "top-1 accuracy", 0.5, None, {}, Plan(), (), {})


def test_a_drop_is_in_points_and_positive_when_the_network_got_worse() -> None:
    assert summary(3000, 0.92).drop == pytest.approx(1.0)
    assert summary(3000, 0.94).drop == pytest.approx(-1.0)


def test_a_reduction_is_before_divided_by_after() -> None:
    assert summary(3000, 0.92).mac_reduction == 2.0
    assert summary(0, 0.92).mac_reduction == 6000.0
