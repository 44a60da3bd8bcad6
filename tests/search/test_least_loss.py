"""Formats taken without a trial: the first one, or the fastest where an engine was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import divergence, toy

from polyadic.schema import Budget, Measure, Plan
from polyadic.search import RankCandidates, SearchSpace, cheapest_plan, search_named
from polyadic.search.levels import least_loss_within, worthwhile_ranks
from polyadic.search.space import Candidate
from polyadic.search.strategies.uniform import Uniform, uniform_within

SEARCHES = ("uniform", "vbmf")
MEASURES: tuple[Measure, ...] = ("macs", "params", "latency")


def concluded(name: str, space: SearchSpace) -> Plan:
    return search_named(name).conclude(space, ())


def formats_of(plan: Plan) -> set[str]:
    return {choice.format for choice in plan.choices}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("budget", [Budget(latency=5.5), Budget(macs=5000), Budget(latency=6.5, params=700)])
def test_where_an_engine_was_asked_the_fastest_format_is_taken(name: str, budget: Budget) -> None:
    """The second format of a toy is the faster one at the same share."""
    space = replace(toy(budget, formats=2, timed=True, ranked=12))
    blind = replace(space, candidates=tuple(replace(candidates, errors=None) for candidates in space.candidates))
    plan = concluded(name, blind)
    assert formats_of(plan) == {"cp-epc"}
    assert blind.admits(plan)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("budget", [Budget(macs=5000), Budget(params=500)])
def test_without_times_it_is_the_first_format(name: str, budget: Budget) -> None:
    assert formats_of(concluded(name, toy(budget, formats=2))) == {"svd"}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("limit", [4.0, 5.5, 7.0])
def test_a_second_format_that_is_faster_never_loses_more(name: str, limit: float) -> None:
    """More of every layer is kept in the same time, and the toys lose what is taken away."""
    one, two = (toy(Budget(latency=limit), formats=formats, timed=True, ranked=20) for formats in (1, 2))
    blind = replace(two, candidates=tuple(replace(candidates, errors=None) for candidates in two.candidates))
    assert divergence(blind, concluded(name, blind)) < divergence(one, concluded(name, one))


def test_known_errors_decide_between_formats() -> None:
    """Slower at the same rank, but so exact that a lower rank will do."""
    space = toy(Budget(latency=5.5), formats=2, timed=True)
    exact = tuple(
        replace(one, errors=tuple(0.1 * error for error in one.errors or ())) if one.format == "svd" else one
        for one in space.candidates
    )
    assert formats_of(uniform_within(replace(space, candidates=exact))) == {"svd"}


def test_every_layer_keeps_its_share_of_the_time() -> None:
    space = toy(Budget(latency=5.5), formats=2, timed=True, ranked=40)
    for share in (0.3, 0.5, 0.7):
        for choice in Uniform().family(space)(share).choices:
            candidates = space.candidates_for(choice)
            kept = candidates.times[candidates.position(choice)] / candidates.dense_time
            assert share - 0.05 < kept <= share


@st.composite
def timed_formats(draw: st.DrawFn) -> list[RankCandidates]:
    """One to three formats of one layer; along each, MACs and milliseconds rise."""
    dense, found = 1000, []
    for name in ("cp", "tucker", "svd")[: draw(st.integers(1, 3))]:
        count = draw(st.integers(1, 6))
        macs = sorted(draw(st.lists(st.integers(1, dense - 1), min_size=count, max_size=count, unique=True)))
        times = sorted(draw(st.lists(st.integers(1, 99), min_size=count, max_size=count, unique=True)))
        params = tuple(draw(st.integers(1, 500)) for _ in macs)
        errors = tuple(draw(st.sampled_from([0.1, 0.2, 0.5])) for _ in macs) if draw(st.booleans()) else None
        ranks = tuple((rank,) for rank in range(1, count + 1))
        milliseconds = tuple(time / 10 for time in times)
        found.append(
            RankCandidates(
                "l", name, ranks, tuple(macs), dense, params, 500, errors, times=milliseconds, dense_time=10.0
            )
        )
    return found


def loss(candidate: Candidate, formats: list[RankCandidates]) -> float:
    """As the module says it."""
    candidates, at = candidate
    known = all(one.errors is not None for one in formats)
    return (candidates.errors or ())[at] if known else -float(candidates.macs[at])


@settings(max_examples=200)
@given(timed_formats())
def test_what_is_left_out_is_beaten_by_something_that_is_left(formats: list[RankCandidates]) -> None:
    left = worthwhile_ranks(formats)
    every = [(candidates, at) for candidates in formats for at in range(len(candidates.ranks))]
    for candidates, at in every:
        assert any(
            other.times[step] <= candidates.times[at]
            and loss((other, step), formats) <= loss((candidates, at), formats)
            for other, step in left
        )
    times = [candidates.times[at] for candidates, at in left]
    losses = [loss(candidate, formats) for candidate in left]
    assert times == sorted(set(times))
    assert losses == sorted(losses, reverse=True)


@settings(max_examples=200)
@given(timed_formats(), st.sampled_from(MEASURES))
def test_what_is_taken_costs_no_less_where_more_is_allowed(formats: list[RankCandidates], measure: Measure) -> None:
    left, dense = worthwhile_ranks(formats), formats[0].dense_cost(measure)
    costs = []
    for step in range(41):
        candidates, at = least_loss_within(left, dense * step / 40, measure)
        costs.append(candidates.costs(measure)[at])
        assert costs[-1] <= dense * step / 40 or costs[-1] == min(one.costs(measure)[place] for one, place in left)
    assert costs == sorted(costs)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_cheapest_plan_is_that_of_the_fastest_ranks(name: str) -> None:
    space = toy(Budget(latency=0.001), formats=2, timed=True)
    assert concluded(name, space) == cheapest_plan(space)
