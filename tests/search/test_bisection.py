from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_worlds import MONOTONE, THRESHOLD, WORLDS, World, candidates, cheapest, cost_of, searched, spaces

from polyadic.schema import Choice, Plan
from polyadic.search import Bisection, SearchSpace, Trial

RESOLUTIONS = st.sampled_from([0.0, 0.04, 0.2])


@given(space=spaces(), world=WORLDS, resolution=RESOLUTIONS)
def test_it_ends_after_no_more_steps_than_bisection_takes(space: SearchSpace, world: World, resolution: float) -> None:
    trials, _ = searched(Bisection(resolution), space, world)
    assert len(trials) <= sum(math.ceil(math.log2(len(one.ranks) + 1)) for one in space.candidates)
    assert len({trial.plan for trial in trials}) == len(trials)
    assert Bisection(resolution or 0.04).expected_trials(space) >= len(space.candidates)


@given(space=spaces(), world=WORLDS, resolution=RESOLUTIONS)
def test_it_proposes_one_rank_of_one_layer_at_a_time(space: SearchSpace, world: World, resolution: float) -> None:
    known = {(one.layer, one.format): set(one.ranks) for one in space.candidates}
    for trial in searched(Bisection(resolution), space, world)[0]:
        (choice,) = trial.plan.choices
        assert choice.rank in known[choice.layer, choice.format]


@given(space=spaces(), world=WORLDS, resolution=RESOLUTIONS)
def test_it_concludes_only_what_was_tried_and_passed(space: SearchSpace, world: World, resolution: float) -> None:
    trials, plan = searched(Bisection(resolution), space, world)
    passed = {trial.plan for trial in trials if trial.drop <= space.threshold}
    assert all(Plan((choice,)) in passed for choice in plan.choices)
    order = list(dict.fromkeys(one.layer for one in space.candidates))
    assert [choice.layer for choice in plan.choices] == [name for name in order if plan.of(name)]


@given(space=spaces(), world=MONOTONE, resolution=RESOLUTIONS)
def test_where_drops_fall_with_the_rank_the_cheapest_is_found_within_the_resolution(
    space: SearchSpace, world: World, resolution: float
) -> None:
    _, plan = searched(Bisection(resolution), space, world)
    for one in space.candidates:
        best, choice = cheapest(space, world, one.layer), plan.of(one.layer)
        if best is None:
            assert choice is None
            continue
        reached = one.dense_macs if choice is None else cost_of(space, choice)
        assert reached == best or reached - best < resolution * one.dense_macs


@given(space=spaces(), world=WORLDS, cut=st.integers(0, 40))
def test_from_any_part_of_its_history_it_goes_on_as_before(space: SearchSpace, world: World, cut: int) -> None:
    search = Bisection()
    trials, plan = searched(search, space, world)
    assert searched(search, space, world, trials[:cut]) == (trials, plan)
    assert search.propose(space, trials[:cut]) == search.propose(space, tuple(trials[:cut]))
    assert search.conclude(space, trials[::-1]) == plan


@given(space=spaces(), world=WORLDS)
def test_trials_of_a_larger_threshold_serve_a_smaller_one_and_change_nothing(space: SearchSpace, world: World) -> None:
    search, tight = Bisection(), replace(space, threshold=space.threshold / 2)
    loose_trials, _ = searched(search, space, world)
    both, plan = searched(search, tight, world, loose_trials)
    fresh, expected = searched(search, tight, world)
    assert plan == expected
    assert len(both) - len(loose_trials) <= len(fresh)


@given(space=spaces(), drop=st.sampled_from([THRESHOLD + 1e-9, math.inf]))
def test_layers_whose_every_rank_fails_stay_dense(space: SearchSpace, drop: float) -> None:
    search, trials = Bisection(), []  # type: ignore[var-annotated]
    while (plan := search.propose(space, trials)) is not None:
        trials.append(Trial(plan, drop))
    assert search.conclude(space, trials) == Plan()
    assert {trial.plan.choices[0].layer for trial in trials} == {one.layer for one in space.candidates}


@given(space=spaces(formats=1))
def test_where_everything_passes_every_layer_is_cut_to_the_bone(space: SearchSpace) -> None:
    search, trials = Bisection(0.0), []  # type: ignore[var-annotated]
    while (plan := search.propose(space, trials)) is not None:
        trials.append(Trial(plan, THRESHOLD))  # a drop of exactly the threshold is allowed
    assert [choice.rank for choice in search.conclude(space, trials).choices] == [(1,)] * len(space.candidates)


def test_the_cheapest_format_wins_and_costlier_ranks_are_never_tried() -> None:
    first = candidates("a", "cp", [10, 20, 30, 40], 100)
    second = candidates("a", "tucker", [5, 15, 25, 50, 60, 70, 80], 100)
    for formats in ((first, second), (second, first)):
        space = SearchSpace(formats, THRESHOLD)
        search, trials = Bisection(0.0), []  # type: ignore[var-annotated]
        while (plan := search.propose(space, trials)) is not None:
            (choice,) = plan.choices
            cost = cost_of(space, choice)
            trials.append(Trial(plan, 0.0 if cost >= {"cp": 20, "tucker": 15}[choice.format] else 9.0))
        assert search.conclude(space, trials) == Plan((Choice("a", "tucker", (2,)),))
        costs = [cost_of(space, trial.plan.choices[0]) for trial in trials if trial.plan.choices[0].format == "cp"]
        assert formats[0] is first or all(cost < 15 for cost in costs)


def test_a_trial_without_fine_tuning_says_nothing_of_a_smaller_threshold() -> None:
    plan = Plan((Choice("a", "cp", (1,)),))
    assert [Trial(plan, 0.8, final=False).verdict(limit) for limit in (1.0, 0.8, 0.5)] == [True, True, None]
    assert [Trial(plan, 0.8).verdict(limit) for limit in (1.0, 0.8, 0.5)] == [True, True, False]
    space = SearchSpace((candidates("a", "cp", [10], 100),), 0.5)
    assert Bisection().propose(space, [Trial(plan, 0.8, final=False)]) == plan
    assert Bisection().propose(space, [Trial(plan, 0.8, final=False), Trial(plan, 0.4)]) is None


@pytest.mark.parametrize("found", [(), (candidates("a", "cp", [99], 100),)])
def test_the_smallest_spaces_are_served(found: tuple) -> None:  # type: ignore[type-arg]
    trials, plan = searched(Bisection(), SearchSpace(found, THRESHOLD), World(0, True))
    assert len(trials) <= 1
    assert len(plan.choices) <= 1
