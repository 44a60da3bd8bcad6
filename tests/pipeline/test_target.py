"""What is asked of a search, in numbers."""

from __future__ import annotations

import math

import pytest

from polyadic.errors import BudgetError, PolyadicError
from polyadic.pipeline import CompressOptions
from polyadic.pipeline.target import Drop, Target
from polyadic.schema import Cost, ScoreWords

DENSE = Cost(params=1000, macs=10_000, bytes=4000)

ACCURACY = ScoreWords("top-1 accuracy", fraction=True)


def target(max_drop: float | str | None = None, budget: tuple[str, ...] = ()) -> Target:
    return Target.of(max_drop, budget, ("svd",), None, CompressOptions(), DENSE)


def test_a_drop_is_in_points_or_a_share_of_the_dense_score() -> None:
    assert Drop.parse("0.5").allowed(ACCURACY, 0.8) == 0.5
    assert Drop.parse("0.5%").allowed(ACCURACY, 0.8) == pytest.approx(0.4)


@pytest.mark.parametrize("written", [-0.1, 100, "100%", "nan", "a lot"])
def test_a_drop_out_of_range_is_refused(written: float | str) -> None:
    with pytest.raises(PolyadicError, match="max_drop is a number of points from 0 to below 100"):
        Drop.parse(written)


def test_before_fine_tuning_more_may_be_lost_and_anything_under_a_budget() -> None:
    assert target(0.5).allowed_drop(6.0, ACCURACY, 0.8) == pytest.approx(3.0)
    assert target("0.5%").allowed_drop(6.0, ACCURACY, 0.8) == pytest.approx(2.4)
    assert target(None, ("macs=50%",)).allowed_drop(6.0, ACCURACY, 0.8) == math.inf
    assert target(0.5, ("macs=50%",)).allowed_drop(6.0, ACCURACY, 0.8) == math.inf


def test_each_round_goes_the_same_factor_of_the_way() -> None:
    asked = target(None, ("macs=25%",))
    limits = [asked.of_round(number, 2, DENSE).budget for number in (1, 2)]
    assert [None if limit is None else limit.macs for limit in limits] == [5000, 2500]


def test_a_budget_that_the_dense_network_keeps_is_refused() -> None:
    with pytest.raises(BudgetError, match="keeps the budget"):
        target(None, ("macs=20k",))


@pytest.mark.parametrize("max_drop", [None, 0.5])
def test_a_factor_that_a_budget_makes_useless_is_refused(max_drop: float | None) -> None:
    options = CompressOptions(finetune_recovery_factor=3.0)
    with pytest.raises(PolyadicError, match=r"finetune_recovery_factor is .* under a budget .* it is not used"):
        Target.of(max_drop, ("macs=50%",), ("svd",), None, options, DENSE)
    Target.of(0.5, (), ("svd",), None, options, DENSE)
    Target.of(max_drop, ("macs=50%",), ("svd",), None, CompressOptions(), DENSE)
