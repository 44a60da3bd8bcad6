from __future__ import annotations

from typing import Any

import pytest
from summaries import summary

from polyadic.reporting.headline import assess, assess_budget
from polyadic.schema import Cost

BUDGET = {"budget": "macs <= 14,000, params <= 400"}


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        (
            {"drop_interval": (-0.25, 0.75)},
            "good",
            "Kept: 0.50 points lost on the test images, 1 point allowed, and",
        ),
        ({"drop_interval": None}, "good", "How certain that is was not measured"),
        ({}, "doubtful", "the 95 % interval goes up to 1.25 points"),
        ({"max_drop": 0.25}, "bad", "more than the 0.25 points allowed. On other samples"),
        ({"max_drop": 0.25, "drop_interval": (0.3, 0.7)}, "bad", "more than the 0.25 points allowed."),
        ({"compressed_score": float("nan")}, "bad", "the score is not a number"),
        ({"compressed_score": 0.91, "drop_interval": (-0.7, -0.3)}, "good", "0.50 points gained"),
        ({"max_drop": None}, "open", "nothing to hold the result to"),
        ({"max_drop": None, "provenance": BUDGET}, "bad", "Over budget in params: macs <= 14,000, params <= 400 was"),
        ({"max_drop": None, "provenance": {"budget": "macs <= 14,000"}}, "good", "Within the budget: macs <= 14,000."),
    ],
)
def test_in_words(changes: dict[str, Any], tone: str, words: str) -> None:
    (assessment,) = assess(summary(**changes))
    assert assessment.tone == tone
    assert words in assessment.sentence


def test_where_the_interval_is_over_the_limit_no_doubt_is_left() -> None:
    (assessment,) = assess(summary(max_drop=0.25, drop_interval=(0.3, 0.7)))
    assert assessment.sentence.endswith("more than the 0.25 points allowed.")


def test_drop_and_budget_are_judged_each() -> None:
    assert [assessment.tone for assessment in assess(summary(provenance=BUDGET))] == ["doubtful", "bad"]


@pytest.mark.parametrize(
    ("latency", "tone"),
    [(2.3, "good"), (2.4, "bad"), (None, "open")],
)
def test_a_limit_of_latency_is_held_to_what_was_timed(latency: float | None, tone: str) -> None:
    asked = {"budget": "macs <= 1,500, latency <= 2.31 ms"}
    assessment = assess_budget(asked, Cost(params=1, macs=1500, bytes=4, latency=latency))
    assert assessment is not None
    assert assessment.tone == tone
