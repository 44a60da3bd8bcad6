from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import toy, trial_of

from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search import RankCandidates, SearchSpace, Trial, Uniform, cheapest_plan, single_layer_plan
from polyadic.search.strategy import cheapest_kept

COSTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=200, unique=True).map(sorted)


def of(macs: list[int]) -> RankCandidates:
    """Ranks (1, 2), (2, 4), ..., with an error and parameters each."""
    ranks = tuple((at, 2 * at) for at in range(1, len(macs) + 1))
    params = tuple(2 * cost for cost in macs)
    errors = tuple(1 / at for at, _ in ranks)
    return RankCandidates(
        "layer", "tucker2", ranks, tuple(macs), macs[-1] + 1, params, 2 * macs[-1] + 2, errors, len(macs) // 2
    )


@given(COSTS, st.integers(2, 12))
def test_thinned_ranks_keep_their_ends_and_stand_closer_where_they_are_cheap(macs: list[int], ranked: int) -> None:
    thin = of(macs).thinned(ranked)
    assert 1 <= len(thin.ranks) <= ranked
    assert (thin.macs[0], thin.macs[-1]) == (macs[0], macs[-1])
    assert set(zip(thin.ranks, thin.macs, thin.params, thin.errors or (), strict=True)) <= set(
        zip(of(macs).ranks, macs, of(macs).params, of(macs).errors or (), strict=True)
    )
    low, high = macs[0] ** 0.5, macs[-1] ** 0.5
    for step in range(ranked):  # at every even step of the root the dearest rank within it is there
        target = (low + (high - low) * step / (ranked - 1)) ** 2 * (1 + 1e-9)
        assert max(cost for cost in macs if cost <= target) in thin.macs


def test_thinning_even_ranks_is_even_in_the_root() -> None:
    thin = of([rank * rank for rank in range(1, 102)]).thinned(6)
    assert [cost**0.5 for cost in thin.macs] == [1, 21, 41, 61, 81, 101]
    assert of([3, 9, 12]).thinned(1).macs == (3,)
    assert of([3, 9, 12]).thinned(8).macs == (3, 9, 12)


@given(COSTS, st.floats(0, 20_000))
def test_within_a_cost_stands_the_dearest_rank_or_the_cheapest_of_all(macs: list[int], limit: float) -> None:
    affordable = [at for at, cost in enumerate(macs) if cost <= limit]
    assert of(macs).within(limit) == (affordable[-1] if affordable else 0)
    assert [of(macs).within(cost) for cost in macs[:5]] == list(range(len(macs[:5])))


def test_some_of_the_ranks_take_along_what_is_known_of_each_rank() -> None:
    part = of([10, 20, 30, 40]).only([3, 1, 3])
    assert part.ranks == ((2, 4), (4, 8))
    assert (part.macs, part.params, part.errors) == ((20, 40), (40, 80), (1 / 2, 1 / 4))
    assert of([10, 20, 30, 40]).only([2, 3]).suggested == 0
    assert part.suggested is None
    assert part.position(Choice("layer", "tucker2", (4, 8))) == 1


def test_the_cheapest_plan_is_so_in_what_is_limited() -> None:
    both = toy(Budget(macs=4000), formats=2)
    assert {choice.format for choice in cheapest_plan(both).choices} == {"svd"}
    by_params = toy(Budget(params=400), formats=2)
    assert {choice.format for choice in cheapest_plan(by_params).choices} == {"cp-epc"}
    assert all(choice.rank == (1,) for choice in cheapest_plan(by_params).choices)


def levels(space: SearchSpace, allowed_macs: int) -> tuple[list[Plan], Plan]:
    """Bisection over uniform shares, where everything of so many MACs or more keeps the drop."""
    trials: list[Trial] = []
    while (plan := Uniform().propose(space, trials)) is not None:
        trials.append(Trial(plan, 0.0 if space.cost(plan).macs >= allowed_macs else 9.0, joint=True))
        assert len(trials) <= 7
    return [trial.plan for trial in trials], Uniform().conclude(space, trials)


@pytest.mark.parametrize("allowed_macs", [0, 1700, 3000, 5000, 8000, 99_999])
def test_the_cheapest_level_that_keeps_a_drop_is_found_in_seven_trials(allowed_macs: int) -> None:
    space = toy()
    tried, plan = levels(space, allowed_macs)
    family = [Uniform().family(space)(step / 64) for step in range(65)]
    passing = [space.cost(one).macs for one in family if space.cost(one).macs >= allowed_macs]
    assert len(tried) <= 7
    if passing:
        assert space.cost(plan).macs == min(passing)
    else:
        assert plan == Plan()


def test_a_level_under_a_budget_is_tried_once_and_not_while_another_tries_it() -> None:
    space = toy(Budget(macs=5000))

    plan = Uniform().propose(space, ())
    assert plan is not None
    assert space.admits(plan)
    assert Uniform().propose(space, (), [plan]) is None
    assert Uniform().propose(space, [trial_of(space, plan)]) is None
    assert Uniform().conclude(space, ()) == plan


def test_the_cheapest_plan_that_kept_the_drop_was_tried_untuned() -> None:
    space = toy(allowed=0.5)
    cheap, dear = Uniform().family(space)(0.2), Uniform().family(space)(0.8)
    kept = [Trial(cheap, 0.4), Trial(cheap, 0.6, joint=True), Trial(dear, 0.5, joint=True)]
    assert cheapest_kept(space, kept) == dear
    assert cheapest_kept(space, kept[:2]) == Plan()
    assert cheapest_kept(space, [Trial(cheap, float("nan"), joint=True)]) == Plan()


def test_times_go_with_the_ranks_that_are_kept_and_are_a_cost_like_others() -> None:
    candidates = RankCandidates(
        "a", "svd", ((1,), (2,), (3,)), (10, 20, 30), 100, (1, 2, 3), 10, times=(1.0, 1.5, 4.0), dense_time=5.0
    )
    assert candidates.only([0, 2]).times == (1.0, 4.0)
    assert candidates.within(2.0, "latency") == 1
    assert candidates.within(0.5, "latency") == 0
    assert [candidates.saved(1, measure) for measure in ("macs", "params", "latency")] == [80, 8, 3.5]
    space = SearchSpace((candidates,), dense=Cost(100, 1000, 400, 50.0))
    assert space.cost(single_layer_plan(candidates, 1)) == Cost(92, 920, 368, 46.5)
    assert space.measure == "latency"
    assert replace(space, budget=Budget(macs=500)).measure == "macs"
    assert replace(space, budget=Budget(bytes=300)).measure == "params"
    assert replace(space, budget=Budget(macs=500, latency=49.0)).measure == "latency"
    assert space.limited(0.5).budget == Budget(latency=25.0)
    untimed = replace(space, dense=Cost(100, 1000, 400), candidates=(replace(candidates, times=()),))
    assert untimed.measure == "macs"
    assert untimed.cost(single_layer_plan(candidates, 1)) == Cost(92, 920, 368)
    assert untimed.limited(0.5).budget == Budget(macs=500)


def test_cheapest_is_what_takes_least_of_what_counts() -> None:
    small = RankCandidates("a", "svd", ((1,),), (10,), 100, (9,), 10, times=(3.0,), dense_time=5.0)
    fast = RankCandidates("a", "cp", ((1,),), (20,), 100, (1,), 10, times=(2.0,), dense_time=5.0)
    space = SearchSpace((small, fast), dense=Cost(100, 1000, 400, 50.0))
    assert cheapest_plan(space) == single_layer_plan(fast, 0)
    assert cheapest_plan(replace(space, budget=Budget(macs=1))) == single_layer_plan(small, 0)
    assert cheapest_plan(replace(space, budget=Budget(params=1))) == single_layer_plan(fast, 0)
    kept = [Trial(single_layer_plan(candidates, 0), 0.1, joint=True) for candidates in (small, fast)]
    assert cheapest_kept(replace(space, allowed=1.0), kept) == single_layer_plan(fast, 0)
