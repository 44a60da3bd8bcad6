from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocation import Losses, tables
from toys import divergence, every_plan, optimum, searched, toy, trial_of

from polyadic.errors import PolyadicError
from polyadic.schema import Budget, Choice, Plan
from polyadic.search import (
    PARS,
    SEARCHES,
    Bisection,
    Frontier,
    Greedy,
    RankCandidates,
    RankSearch,
    SearchSpace,
    Trial,
    cheapest_plan,
    search_named,
)
from polyadic.search.strategies.uniform import Uniform

BUDGETS = {
    "macs": toy(Budget(macs=5000)),
    "params": toy(Budget(params=400)),
    "macs, params and bytes": toy(Budget(macs=6000, params=450, bytes=1700), formats=2),
    "two formats": toy(Budget(macs=4000), formats=2),
    "one layer": toy(Budget(macs=1500), layers=1),
    "one rank": toy(Budget(macs=6000), ranked=1),
    "latency": toy(Budget(latency=5.5), formats=2, timed=True),
    "latency and params": toy(Budget(latency=6.5, params=600), timed=True),
}
DROPS = {
    "drop": toy(allowed=1.0),
    "drop, two formats": toy(allowed=0.5, formats=2),
    "drop, one layer": toy(allowed=0.1, layers=1),
    "drop, in time": toy(allowed=0.5, formats=2, timed=True),
}
ASKED = {**BUDGETS, **DROPS}
NAMES = [name for name in SEARCHES if name != "bisection"]
EVERY = [(name, asked) for name in NAMES for asked in ASKED] + [("bisection", asked) for asked in DROPS]
QUICK = ("one layer", "drop, one layer")  # of the searches that fit a Gaussian process; the other spaces are slow


def with_slow_ones(pairs: list[tuple[str, str]]) -> list[Any]:
    """The same pairs, those marked that take seconds."""
    slow = [name == "pars" and asked not in QUICK for name, asked in pairs]
    return [
        pytest.param(*pair, marks=pytest.mark.slow if is_slow else ())
        for pair, is_slow in zip(pairs, slow, strict=True)
    ]


every_search = pytest.mark.parametrize(("name", "asked"), with_slow_ones(EVERY))


def named(name: str) -> RankSearch:
    """With few evaluations where they are what takes time."""
    return PARS(evaluations=9, initial=5) if name == "pars" else search_named(name)


@cache
def history(name: str, asked: str) -> tuple[list[Trial], Plan]:
    """The search by one worker; the tests look at it from all sides."""
    return searched(named(name), ASKED[asked], most=120)


@every_search
def test_it_ends_and_tries_no_plan_twice_and_nothing_that_is_not_there(name: str, asked: str) -> None:
    trials, plan = history(name, asked)
    space = ASKED[asked]
    assert len({trial.plan for trial in trials}) == len(trials)
    order = list(space.by_layer())
    for one in [*(trial.plan for trial in trials), plan]:
        assert all(choice.rank in space.candidates_for(choice).ranks for choice in one.choices)
        assert [choice.layer for choice in one.choices] == [layer for layer in order if one.of(layer)]
    assert all(trial.plan.choices for trial in trials), "the dense network is known"


@every_search
def test_cut_anywhere_it_goes_on_as_if_it_had_not_been(name: str, asked: str) -> None:
    trials, plan = history(name, asked)
    search, space = named(name), replace(ASKED[asked])
    for cut, trial in enumerate(trials):
        assert search.propose(space, tuple(trials[:cut])) == trial.plan
    assert search.propose(space, trials) is None
    assert search.conclude(space, trials) == plan


@every_search
def test_what_is_running_is_left_to_those_who_run_it(name: str, asked: str) -> None:
    trials, _ = history(name, asked)
    search, space = named(name), ASKED[asked]
    for cut in range(len(trials)):
        running: list[Plan] = []
        for _ in range(3):
            plan = search.propose(space, trials[:cut], running)
            if plan is None:
                break
            assert plan not in running
            assert plan not in {trial.plan for trial in trials[:cut]}
            running.append(plan)
        assert running[:1] == [trials[cut].plan]


@every_search
def test_three_workers_that_finish_in_any_order_come_to_a_conclusion(name: str, asked: str) -> None:
    search, space, order = named(name), ASKED[asked], random.Random(7)
    trials: list[Trial] = []
    running: list[Plan] = []
    while True:
        plan = search.propose(space, trials, running) if len(running) < 3 else None
        if plan is not None:
            running.append(plan)
        elif running:
            trials.append(trial_of(space, running.pop(order.randrange(len(running))), search.tunes_layers))
        else:
            break
        assert len(trials) < 120, "the search does not end"
    assert len({trial.plan for trial in trials}) == len(trials)
    assert space.admits(search.conclude(space, trials))
    if name != "pars":  # whose proposals depend on what was running
        assert search.conclude(space, trials) == history(name, asked)[1]


@pytest.mark.parametrize(("name", "asked"), with_slow_ones([(name, asked) for name in NAMES for asked in BUDGETS]))
def test_the_budget_is_kept_whenever_the_search_is_ended(name: str, asked: str) -> None:
    trials, plan = history(name, asked)
    search, space = named(name), BUDGETS[asked]
    for cut in range(len(trials) + 1):
        concluded = search.conclude(space, trials[:cut])
        assert space.admits(concluded)
        assert concluded.choices
    assert divergence(space, plan) <= divergence(space, cheapest_plan(space))
    wholes = [trial.plan for trial in trials if len(trial.plan.choices) > 1]
    assert all(space.admits(whole) for whole in wholes)


@pytest.mark.parametrize(("name", "asked"), [pair for pair in EVERY if pair[1] in DROPS])
def test_the_drop_is_kept_by_a_plan_that_was_tried(name: str, asked: str) -> None:
    trials, plan = history(name, asked)
    space = DROPS[asked]
    if name == "bisection":
        assert all(divergence(space, Plan((choice,))) <= space.threshold for choice in plan.choices)
    else:
        assert plan in {trial.plan for trial in trials}
        assert divergence(space, plan) <= space.allowed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", DROPS)
def test_where_nothing_keeps_the_drop_everything_stays_dense(name: str, asked: str) -> None:
    space = replace(DROPS[asked], allowed=-1.0)
    trials, plan = searched(named(name), space, most=120)
    assert plan == Plan()
    assert trials


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limits", [Budget(macs=10), Budget(params=1, macs=9000)])
def test_an_impossible_budget_ends_with_the_cheapest_plan(name: str, limits: Budget) -> None:
    space = toy(limits)
    _, plan = searched(named(name), space, most=120)
    assert plan == cheapest_plan(space)


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_is_kept_already_costs_next_to_nothing(name: str) -> None:
    space = toy(Budget(macs=10**9))
    trials, plan = searched(named(name), space, most=120)
    assert divergence(space, plan) <= divergence(space, Uniform().family(space)(1.0))
    assert len(trials) <= (20 if name == "greedy" else 1)


@pytest.mark.parametrize("asked", [*BUDGETS])
def test_the_frontier_is_the_optimum_where_losses_add_up_and_greedy_is_near(asked: str) -> None:
    space = BUDGETS[asked]
    best, worst = optimum(space), divergence(space, cheapest_plan(space))
    assert divergence(space, history("frontier", asked)[1]) <= best + 0.02 * (worst - best)
    assert divergence(space, history("greedy", asked)[1]) <= best + 0.1 * (worst - best)


@pytest.mark.parametrize("name", ["frontier", "greedy"])
@pytest.mark.parametrize("asked", DROPS)
def test_within_a_drop_they_come_near_the_cheapest_plan_there_is(name: str, asked: str) -> None:
    space = DROPS[asked]
    _, plan = history(name, asked)
    least = min(space.cost(one).macs for one in every_plan(space) if divergence(space, one) <= space.allowed)
    assert space.cost(plan).macs <= 1.35 * least


@pytest.mark.slow
@pytest.mark.parametrize("space", [BUDGETS["macs"], DROPS["drop"]], ids=["macs", "drop"])
def test_bayesian_optimisation_leaves_uniform_ranks_behind(space: SearchSpace) -> None:
    _, plan = searched(PARS(evaluations=25, initial=6), space)
    if space.budget is None:
        _, uniform = searched(search_named("uniform"), space)
        assert space.cost(plan).macs < 0.7 * space.cost(uniform).macs
    else:
        best, uniform_loss = optimum(space), divergence(space, search_named("uniform").conclude(space, ()))
        assert divergence(space, plan) < best + 0.1 * (uniform_loss - best)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", [BUDGETS["macs, params and bytes"], DROPS["drop"]], ids=["budget", "drop"])
@pytest.mark.parametrize(
    "lost",
    [lambda _: math.nan, lambda _: -1.0, lambda draw: draw.choice([math.nan, math.inf, -2.0, 0.0, 1e30, 3.0])],
    ids=["nan", "gain", "anything"],
)
def test_scores_of_any_kind_are_survived(name: str, space: SearchSpace, lost: Callable[[random.Random], float]) -> None:
    search, trials = named(name), []  # type: ignore[var-annotated]
    while (plan := search.propose(space, trials)) is not None:
        trials.append(Trial(plan, lost(random.Random(repr(plan))), joint=True))
        assert len(trials) < 150, "the search does not end"
    assert space.admits(search.conclude(space, trials))


def test_a_plan_to_begin_from_is_tried_first_and_brought_into_the_budget() -> None:
    space = BUDGETS["macs"]
    best = min((plan for plan in every_plan(space) if space.admits(plan)), key=lambda plan: divergence(space, plan))
    search = PARS(evaluations=9, initial=5, start=best)
    assert search.propose(space, ()) == best
    assert divergence(space, searched(search, space)[1]) == optimum(space)
    dear = Plan(tuple(replace(choice, rank=(5,)) for choice in best.choices))
    first = PARS(start=dear).propose(space, ())
    assert first is not None
    assert space.admits(first)
    between = Plan(tuple(replace(choice, rank=(99,)) for choice in best.choices))
    assert PARS(start=between).propose(space, ()) == first
    with pytest.raises(PolyadicError, match="puts layer 'layer0' into tt, which this search does not choose from"):
        PARS(start=Plan((Choice("layer0", "tt", (1,)),))).propose(space, ())
    assert repr(PARS(start=best)) != repr(PARS())


@settings(max_examples=8)
@given(tables(), st.integers(0, 99))
def test_bayesian_optimisation_never_leaves_the_budget(drawn: tuple[SearchSpace, Losses], seed: int) -> None:
    space, losses = drawn
    search, trials = PARS(evaluations=6, initial=3, seed=seed), []  # type: ignore[var-annotated]
    while (plan := search.propose(space, trials)) is not None:
        assert space.admits(plan)
        loss = sum(losses[choice.layer, choice.format, choice.rank[0]] for choice in plan.choices)
        trials.append(Trial(plan, loss, joint=True))
    assert space.admits(search.conclude(space, trials))


def test_trials_of_another_search_count_as_evaluations() -> None:
    space = BUDGETS["macs"]
    known, _ = searched(Frontier(), space)
    wholes = sum(len(trial.plan.choices) > 1 for trial in known)
    trials, plan = searched(PARS(evaluations=wholes + 3), space, known)
    assert len(trials) == len(known) + 3
    assert divergence(space, plan) == optimum(space)


def test_seeds_and_running_plans_lead_to_different_points() -> None:
    space = BUDGETS["two formats"]
    trials, _ = searched(PARS(evaluations=6, initial=6), space)
    plans = [PARS(initial=6, seed=seed).propose(space, trials[:3]) for seed in range(4)]
    assert len({repr(plan) for plan in plans}) == 4
    first = PARS(initial=6).propose(space, trials)
    assert first is not None
    second = PARS(initial=6).propose(space, trials, [first])
    assert second not in (None, first)


def test_searches_by_name() -> None:
    for name, kind in SEARCHES.items():
        assert isinstance(search_named(name), kind)
        assert search_named(name).name == name
        assert search_named(name).expected_trials(ASKED["drop"]) > 0
    assert search_named("pars", evaluations=7) == PARS(evaluations=7)
    assert search_named("bisection", resolution=0.1) == Bisection(0.1)
    with pytest.raises(PolyadicError, match=r"a search is one of uniform, bisection, .*pars; got 'best'"):
        search_named("best")
    with pytest.raises(PolyadicError, match=r"search pars takes evaluations, .*; got 'speed'"):
        search_named("pars", speed=3)
    with pytest.raises(PolyadicError, match="search greedy takes no options; got 'speed'"):
        search_named("greedy", speed=3)


def test_a_stable_choice_of_format_needs_errors_and_without_them_the_first_format_is_taken() -> None:
    space = BUDGETS["two formats"]
    better = tuple(
        replace(one, errors=tuple(0.5 * error for error in one.errors or ())) if one.format == "cp-epc" else one
        for one in space.candidates
    )
    blind: tuple[RankCandidates, ...] = tuple(replace(one, errors=None) for one in space.candidates)
    for formats, fmt in ((better, "cp-epc"), (blind, "svd")):
        plan = PARS().propose(replace(space, candidates=formats), ())
        assert plan is not None
        assert {choice.format for choice in plan.choices} == {fmt}


def test_greedy_and_frontier_begin_with_the_same_table() -> None:
    space = BUDGETS["macs"]
    tables = [[trial.plan for trial in history(name, "macs")[0]][:12] for name in ("greedy", "frontier")]
    assert tables[0] == tables[1]
    assert Greedy().expected_trials(space) == 13
