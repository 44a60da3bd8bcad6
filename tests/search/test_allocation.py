from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toys import every_plan, loss, toy, trial_of

from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search import Ladder, Problem, Trial, cheapest_plan
from polyadic.search.allocation import allocated
from polyadic.search.loss_table import anchors, is_complete, missing_probe, options_of, probes
from polyadic.search.rank_search import single
from polyadic.search.ratio_space import RatioSpace
from polyadic.search.uniform import uniform_plan, uniform_within

Harms = dict[tuple[str, str, int], float]


@st.composite
def tables(draw: st.DrawFn, formats: int = 2) -> tuple[Problem, Harms]:
    """One to three layers with one to four ranks in each format, with any costs and harms, and a budget that can be."""
    ladders, harms = [], {}
    for number in range(draw(st.integers(1, 3))):
        dense = draw(st.integers(50, 1000))
        for fmt in ("svd", "cp")[: draw(st.integers(1, formats))]:
            macs = tuple(draw(st.lists(st.integers(1, dense - 1), min_size=1, max_size=4, unique=True).map(sorted)))
            params = tuple(sorted(draw(st.lists(st.integers(1, 99), min_size=len(macs), max_size=len(macs)))))
            ranks = tuple((at + 1,) for at in range(len(macs)))
            errors = tuple(draw(st.floats(0, 1)) for _ in macs)
            ladders.append(Ladder(f"l{number}", fmt, ranks, macs, dense, params, 100, errors))
            for rank in ranks:
                harms[f"l{number}", fmt, rank[0]] = draw(st.floats(0, 10, width=16))
    dense = sum({ladder.layer: ladder.dense_macs for ladder in ladders}.values()) + draw(st.integers(0, 100))
    layers = len({ladder.layer for ladder in ladders})
    problem = Problem(tuple(ladders), 0.0, Cost(100 * layers, dense, 400 * layers))
    limits: dict[str, int] = {"macs": draw(st.integers(problem.cost(cheapest_plan(problem)).macs, dense))}
    if draw(st.booleans()):
        limits["params"] = draw(st.integers(layers, 100 * layers))
    problem = replace(problem, budget=Budget(**limits))
    assume(problem.admits(cheapest_plan(problem)))
    return problem, harms


def measured(problem: Problem, harms: Harms) -> list[Trial]:
    """The whole table."""
    return [
        Trial(plan, harms[choice.layer, choice.format, choice.rank[0]], joint=True)
        for plan in probes(problem)
        for choice in plan.choices
    ]


def blind(problem: Problem) -> Problem:
    """The same where no errors are known, so that every rank is tried."""
    return replace(problem, ladders=tuple(replace(ladder, errors=None) for ladder in problem.ladders))


def envelope(problem: Problem, harms: Harms, plan: Plan) -> float:
    """The sum of harms, where each rank harms no more than the cheaper ones on its ladder."""
    return sum(
        min(harms[choice.layer, choice.format, rank] for rank in range(1, choice.rank[0] + 1))
        for choice in plan.choices
    )


@given(tables())
def test_an_allocation_keeps_the_budget_and_has_room_for_nothing_better(drawn: tuple[Problem, Harms]) -> None:
    problem, harms = blind(drawn[0]), drawn[1]
    plan = allocated(problem, options_of(problem, measured(problem, harms)))
    assert problem.admits(plan)
    for layer, ladders in problem.of_layer().items():  # no single layer can be bettered
        rest = tuple(choice for choice in plan.choices if choice.layer != layer)
        for ladder, at in [(one, at) for one in ladders for at in range(len(one.ranks))]:
            moved = Plan((*rest, *single(ladder, at).choices))
            saves = problem.cost(plan).macs < problem.cost(moved).macs
            if saves and problem.cost(plan).params <= problem.cost(moved).params and problem.admits(moved):
                assert envelope(problem, harms, moved) >= envelope(problem, harms, plan) - 1e-9


@given(tables(formats=1))
def test_under_one_limit_it_is_the_best_of_all_plans_but_for_the_step_of_one_layer(
    drawn: tuple[Problem, Harms],
) -> None:
    problem, harms = drawn
    assert problem.budget is not None
    problem = replace(blind(problem), budget=Budget(macs=problem.budget.macs))
    harms = {key: harm + 1e-3 * number for number, (key, harm) in enumerate(harms.items())}  # no two slopes alike
    table = options_of(problem, measured(problem, harms))
    reached = envelope(problem, harms, allocated(problem, table))
    best = min(envelope(problem, harms, plan) for plan in every_plan(problem) if problem.admits(plan))
    # of the relaxed optimum all layers but one are whole, and that one is rounded down by at most its whole range
    assert reached <= best + max(options[-1].harm for options in table.values()) + 1e-9


def test_where_losses_are_convex_every_budget_is_divided_as_well_as_by_looking_at_all_plans() -> None:
    problem = toy(layers=3, rungs=4)
    trials = [trial_of(problem, plan) for plan in probes(problem)]
    plans = every_plan(problem)
    gaps = []
    for macs in range(1500, 7000, 250):
        limited = replace(problem, budget=Budget(macs=macs))
        best = min(loss(problem, plan) for plan in plans if limited.admits(plan))
        gaps.append(loss(problem, allocated(limited, options_of(limited, trials))) - best)
    assert min(gaps) > -1e-12
    assert max(gaps) < 0.25  # of losses up to 4
    assert sum(gap < 1e-12 for gap in gaps) >= 0.7 * len(gaps)


def test_the_larger_the_power_the_smaller_the_largest_harm() -> None:
    problem = toy(Budget(macs=5000), rungs=12)
    table = options_of(problem, [trial_of(problem, plan) for plan in probes(problem)])
    plans = {power: allocated(problem, table, power) for power in (0.25, 1.0, 4.0)}
    worst = {power: max(loss(problem, Plan((one,))) for one in plan.choices) for power, plan in plans.items()}
    assert worst[4.0] < worst[1.0] < worst[0.25]
    assert loss(problem, plans[1.0]) < min(loss(problem, plans[0.25]), loss(problem, plans[4.0]))


def test_an_allocation_takes_a_budget() -> None:
    with pytest.raises(ValueError, match="divides a budget; the problem has none"):
        allocated(toy(), {})


def test_a_table_is_filled_layer_after_layer_and_leaves_what_others_are_at() -> None:
    problem = blind(toy(Budget(macs=4000), layers=2, formats=2, rungs=2))
    order = probes(problem)
    assert len(order) == 8
    assert order[0] == Plan((Choice("layer0", "svd", (1,)),))
    trials = [trial_of(problem, plan) for plan in order[:3]]
    assert missing_probe(problem, trials, ()) == order[3]
    assert missing_probe(problem, trials, order[3:5]) == order[5]
    assert missing_probe(problem, trials, order[3:]) is None
    assert not is_complete(problem, trials)
    assert is_complete(problem, [trial_of(problem, plan) for plan in order])
    tuned = [replace(trial_of(problem, plan), joint=False) for plan in order]
    assert missing_probe(problem, tuned, ()) == order[0], "a fine-tuned layer says nothing of an untuned one"


@given(tables())
def test_where_errors_are_known_three_rows_of_a_layer_are_tried(drawn: tuple[Problem, Harms]) -> None:
    problem, _ = drawn
    order = probes(problem)
    assert len(set(order)) == len(order)
    for layer, ladders in problem.of_layer().items():
        rows = [choice for plan in order for choice in plan.choices if choice.layer == layer]
        assert 1 <= len(rows) <= 3
        assert all(problem.ladder(row).position(row) in anchors(problem.ladder(row)) for row in rows)
        assert all(len(anchors(ladder)) == min(3, len(ladder.ranks)) for ladder in ladders)


def test_the_rows_of_a_layer_span_the_errors_of_all_its_formats_and_leave_out_what_is_dearer_and_worse() -> None:
    good = Ladder("a", "cp-epc", ((1,), (2,), (3,)), (10, 25, 50), 100, errors=(0.5, 0.2, 0.01))
    poor = Ladder("a", "svd", ((1,), (2,), (3,)), (9, 25, 50), 100, errors=(0.8, 0.6, 0.4))
    problem = Problem((good, poor), dense=Cost(10, 100, 40))
    assert probes(problem) == [single(poor, 0), single(good, 0), single(good, 1)]
    trials = [Trial(plan, harm, joint=True) for plan, harm in zip(probes(problem), (4.096, 0.625, 0.016), strict=True)]
    found = {(o.ladder.format, o.position): o.harm for o in options_of(problem, trials)["a"] if o.ladder is not None}
    assert found == pytest.approx(  # 10 error^4 and 10 error^4, up to 0.5 and down to 0.2
        {("svd", 0): 4.096, ("cp-epc", 0): 0.625, ("cp-epc", 1): 0.016, ("cp-epc", 2): 0.016 / 20**4}, rel=1e-6
    )


def test_one_table_serves_every_budget_and_is_exact_where_harm_is_a_power_of_the_error() -> None:
    problem = toy(Budget(macs=5000), rungs=12)
    trials = [trial_of(problem, plan) for plan in probes(problem)]
    assert probes(replace(problem, budget=Budget(macs=2000))) == probes(problem)
    table, every = options_of(problem, trials), options_of(blind(problem), _all_rows(problem))
    for layer, options in every.items():
        exact = {option.macs: option.harm for option in options}
        assert all(option.harm == pytest.approx(exact[option.macs], rel=0.02) for option in table[layer])


def _all_rows(problem: Problem) -> list[Trial]:
    return [trial_of(problem, plan) for plan in probes(blind(problem))]


def test_options_are_dense_first_and_without_those_that_another_beats() -> None:
    first = Ladder("a", "svd", ((1,), (2,), (3,)), (10, 20, 30), 100, (1, 2, 3), 10)
    second = Ladder("a", "cp", ((1,),), (15,), 100, (9,), 10)
    problem = Problem((first, second), dense=Cost(10, 100, 40))
    drops = {(10, "svd"): 5.0, (20, "svd"): 1.0, (30, "svd"): 2.0, (15, "cp"): 1.0}
    trials = [
        Trial(single(ladder, at), drops[ladder.macs[at], ladder.format], joint=True)
        for ladder in (first, second)
        for at in range(len(ladder.ranks))
    ]
    found = options_of(problem, trials)["a"]
    assert [(option.ladder.format if option.ladder else None, option.macs, option.harm) for option in found] == [
        (None, 0, 0.0),
        ("svd", 70, 1.0),  # rank 3 harms no more than rank 2
        ("svd", 80, 1.0),
        ("cp", 85, 1.0),
        ("svd", 90, 5.0),
    ]
    gains = options_of(problem, [replace(trial, drop=-1.0) for trial in trials])["a"]
    assert {option.harm for option in gains} == {0.0}, "a layer does not harm less than not at all"


@given(tables(), st.lists(st.floats(1e-3, 1.0), min_size=3, max_size=3))
def test_a_point_is_projected_onto_the_edge_of_the_budget(drawn: tuple[Problem, Harms], shares: list[float]) -> None:
    problem, _ = drawn
    space = RatioSpace.of(problem)
    point = shares[: len(space.options)]
    plan = space.plan(point)
    assert plan is not None
    assert problem.admits(plan)
    kept = dict(zip(space.options, space.shares(plan), strict=True))
    for layer, options in space.options.items():  # no layer can take its next option
        costs = [space.cost(layer, option) for option in options]
        at = max(at for at, cost in enumerate(costs) if cost <= kept[layer] * costs[-1] * (1 + 1e-9))
        if at + 1 < len(options):
            ladder = options[at + 1].ladder
            rest = tuple(choice for choice in plan.choices if choice.layer != layer)
            further = Plan(rest if ladder is None else (*rest, *single(ladder, options[at + 1].position).choices))
            assert not problem.admits(further)
    again = space.plan(space.shares(plan))
    assert again == plan, "a plan on the edge is its own projection"


@given(tables())
def test_options_of_a_ratio_cost_more_and_err_less_one_after_the_other(drawn: tuple[Problem, Harms]) -> None:
    space = RatioSpace.of(drawn[0])
    for layer, options in space.options.items():
        assert options[-1].ladder is None
        for one, other in itertools.pairwise(options):
            assert space.cost(layer, one) <= space.cost(layer, other)
            assert one.harm >= other.harm


@given(tables())
def test_uniform_ranks_keep_the_budget_and_no_larger_share_does(drawn: tuple[Problem, Harms]) -> None:
    problem, _ = drawn
    plan = uniform_within(problem)
    assert problem.admits(plan)
    costs = [problem.cost(uniform_plan(problem, share / 200)) for share in range(201)]
    admitted = [cost.macs for cost in costs if problem.budget is not None and problem.budget.admits(cost)]
    assert problem.cost(plan).macs >= max(admitted, default=0)
