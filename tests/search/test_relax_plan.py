from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rank_worlds import WORLDS, World, cost_of, searched, spaces

from polyadic.schema import Plan
from polyadic.search import Bisection, SearchSpace, relax_plan


@given(space=spaces(), world=WORLDS, shares=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_the_more_is_given_back_the_more_each_layer_costs(
    space: SearchSpace, world: World, shares: list[float]
) -> None:
    _, plan = searched(Bisection(), space, world)
    plans = [relax_plan(plan, space.candidates, share) for share in (0.0, *sorted(shares), 1.0)]
    assert plans[0] == plan
    for less, more in pairwise(plans):
        for before, after in zip(less.choices, more.choices, strict=True):
            assert (before.layer, before.format) == (after.layer, after.format)
            assert cost_of(space, before) <= cost_of(space, after)
    tops = {(one.layer, one.format): one.ranks[-1] for one in space.candidates}
    assert all(choice.rank == tops[choice.layer, choice.format] for choice in plans[-1].choices)


def test_an_empty_plan_stays_empty() -> None:
    assert relax_plan(Plan(), (), 0.5) == Plan()
