"""Plans: one choice per layer, as JSON and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyadic.errors import LayerError
from polyadic.schema import Choice, Plan, plain_rank

RANKS = st.lists(st.integers(1, 1000), min_size=1, max_size=3).map(tuple)
PLANS = st.dictionaries(
    st.text("abcß.01", min_size=1, max_size=9), st.tuples(st.sampled_from(["cp-epc", "svd"]), RANKS)
).map(lambda named: Plan(tuple(Choice(layer, fmt, rank) for layer, (fmt, rank) in named.items())))


@given(PLANS)
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_single_rank_may_be_a_plain_number() -> None:
    data = [
        {"layer": "conv1", "format": "cp-epc", "rank": 64},
        {"layer": "conv2", "format": "tucker2", "rank": [40, 33]},
    ]
    plan = Plan.from_json(data)
    assert [choice.rank for choice in plan.choices] == [(64,), (40, 33)]
    assert plan.to_json() == data
    assert (plain_rank((64,)), plain_rank((40, 33))) == (64, [40, 33])


def test_a_layer_is_found_by_name_and_one_that_is_not_named_stays_dense() -> None:
    choice = Choice("conv1", "svd", (3,))
    assert Plan((choice,)).of("conv1") == choice
    assert Plan((choice,)).of("conv2") is None
    assert Plan().choices == ()


def test_a_layer_named_twice_is_refused_by_name() -> None:
    twice = [Choice("conv1", "svd", (3,)), Choice("conv2", "svd", (3,)), Choice("conv1", "cp-epc", (4,))]
    with pytest.raises(LayerError, match="at most once; got conv1 several times"):
        Plan(tuple(twice))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"layer": "conv1"}, "the list"),
        ("plan", "the list"),
        (None, "the list"),
        ([3], "0"),
        ([{"format": "svd", "rank": 3}], r"0\.layer"),
        ([{"layer": "conv1", "rank": 3}], r"0\.format"),
        ([{"layer": "conv1", "format": "svd"}], r"0\.rank"),
        ([{"layer": "conv1", "format": "svd", "rank": "many"}], r"0\.rank"),
        ([{"layer": "conv1", "format": "svd", "rank": 2.5}], r"0\.rank"),
        ([{"layer": "conv1", "format": "svd", "rank": [2, "x"]}], r"0\.rank\.1"),
        ([{"layer": 7, "format": "svd", "rank": 3}], r"0\.layer"),
    ],
)
def test_what_is_not_a_plan_is_refused_with_the_place(data: object, where: str) -> None:
    with pytest.raises(LayerError, match=f"a plan is a list of objects.* at {where}"):
        Plan.from_json(data)


def test_unknown_keys_are_ignored_so_that_old_readers_take_new_plans() -> None:
    plan = Plan.from_json([{"layer": "conv1", "format": "svd", "rank": 3, "comment": "by hand"}])
    assert plan == Plan((Choice("conv1", "svd", (3,)),))
