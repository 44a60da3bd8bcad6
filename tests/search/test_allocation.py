from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toys import divergence, every_plan, toy, trial_of

from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search import RankCandidates, SearchSpace, Trial, cheapest_plan
from polyadic.search.allocation import allocate
from polyadic.search.loss_table import anchors, is_complete, missing_probe, options_of, probes
from polyadic.search.ratio_space import RatioSpace
from polyadic.search.space import single_layer_plan
from polyadic.search.strategies.uniform import Uniform, uniform_within

Losses = dict[tuple[str, str, int], float]


@st.composite
def tables(draw: st.DrawFn, formats: int = 2) -> tuple[SearchSpace, Losses]:
    """One to three layers with one to four ranks in each format, any costs and losses, and a budget that can be."""
    found, losses = [], {}
    for number in range(draw(st.integers(1, 3))):
        dense = draw(st.integers(50, 1000))
        for fmt in ("svd", "cp")[: draw(st.integers(1, formats))]:
            macs = tuple(draw(st.lists(st.integers(1, dense - 1), min_size=1, max_size=4, unique=True).map(sorted)))
            params = tuple(sorted(draw(st.lists(st.integers(1, 99), min_size=len(macs), max_size=len(macs)))))
            ranks = tuple((at + 1,) for at in range(len(macs)))
            errors = tuple(draw(st.floats(0, 1)) for _ in macs)
            found.append(RankCandidates(f"l{number}", fmt, ranks, macs, dense, params, 100, errors))
            for rank in ranks:
                losses[f"l{number}", fmt, rank[0]] = draw(st.floats(0, 10, width=16))
    dense = sum({candidates.layer: candidates.dense_macs for candidates in found}.values()) + draw(st.integers(0, 100))
    layers = len({candidates.layer for candidates in found})
    space = SearchSpace(tuple(found), 0.0, Cost(100 * layers, dense, 400 * layers))
    limits: dict[str, int] = {"macs": draw(st.integers(space.cost(cheapest_plan(space)).macs, dense))}
    if draw(st.booleans()):
        limits["params"] = draw(st.integers(layers, 100 * layers))
    space = replace(space, budget=Budget(**limits))
    assume(space.admits(cheapest_plan(space)))
    return space, losses


def measured(space: SearchSpace, losses: Losses) -> list[Trial]:
    """The whole table."""
    return [
        Trial(plan, losses[choice.layer, choice.format, choice.rank[0]], joint=True)
        for plan in probes(space)
        for choice in plan.choices
    ]


def blind(space: SearchSpace) -> SearchSpace:
    """The same where no errors are known, so that every rank is tried."""
    return replace(space, candidates=tuple(replace(candidates, errors=None) for candidates in space.candidates))


def envelope(space: SearchSpace, losses: Losses, plan: Plan) -> float:
    """The sum of losses, where each rank loses no more than the cheaper ones of its format."""
    return sum(
        min(losses[choice.layer, choice.format, rank] for rank in range(1, choice.rank[0] + 1))
        for choice in plan.choices
    )


@given(tables())
def test_an_allocation_keeps_the_budget_and_has_room_for_nothing_better(drawn: tuple[SearchSpace, Losses]) -> None:
    space, losses = blind(drawn[0]), drawn[1]
    plan = allocate(space, options_of(space, measured(space, losses)))
    assert space.admits(plan)
    for layer, formats in space.by_layer().items():  # no single layer can be bettered
        rest = tuple(choice for choice in plan.choices if choice.layer != layer)
        for candidates, at in [(one, at) for one in formats for at in range(len(one.ranks))]:
            moved = Plan((*rest, *single_layer_plan(candidates, at).choices))
            saves = space.cost(plan).macs < space.cost(moved).macs
            if saves and space.cost(plan).params <= space.cost(moved).params and space.admits(moved):
                assert envelope(space, losses, moved) >= envelope(space, losses, plan) - 1e-9


@given(tables(formats=1))
def test_under_one_limit_it_is_the_best_of_all_plans_but_for_the_step_of_one_layer(
    drawn: tuple[SearchSpace, Losses],
) -> None:
    space, losses = drawn
    assert space.budget is not None
    space = replace(blind(space), budget=Budget(macs=space.budget.macs))
    losses = {key: loss + 1e-3 * number for number, (key, loss) in enumerate(losses.items())}  # no two slopes alike
    table = options_of(space, measured(space, losses))
    reached = envelope(space, losses, allocate(space, table))
    best = min(envelope(space, losses, plan) for plan in every_plan(space) if space.admits(plan))
    # of the relaxed optimum all layers but one are whole, and that one is rounded down by at most its whole range
    assert reached <= best + max(options[-1].loss for options in table.values()) + 1e-9


def test_where_losses_are_convex_every_budget_is_divided_as_well_as_by_looking_at_all_plans() -> None:
    space = toy(layers=3, ranked=4)
    trials = [trial_of(space, plan) for plan in probes(space)]
    plans = every_plan(space)
    gaps = []
    for macs in range(1500, 7000, 250):
        limited = replace(space, budget=Budget(macs=macs))
        best = min(divergence(space, plan) for plan in plans if limited.admits(plan))
        gaps.append(divergence(space, allocate(limited, options_of(limited, trials))) - best)
    assert min(gaps) > -1e-12
    assert max(gaps) < 0.25  # of losses up to 4
    assert sum(gap < 1e-12 for gap in gaps) >= 0.7 * len(gaps)


def test_the_larger_the_power_the_smaller_the_largest_loss() -> None:
    space = toy(Budget(macs=5000), ranked=12)
    table = options_of(space, [trial_of(space, plan) for plan in probes(space)])
    plans = {power: allocate(space, table, power) for power in (0.25, 1.0, 4.0)}
    worst = {power: max(divergence(space, Plan((one,))) for one in plan.choices) for power, plan in plans.items()}
    assert worst[4.0] < worst[1.0] < worst[0.25]
    assert divergence(space, plans[1.0]) < min(divergence(space, plans[0.25]), divergence(space, plans[4.0]))


def test_what_two_layers_of_one_price_leave_of_the_budget_is_filled_up() -> None:
    space = SearchSpace(
        tuple(RankCandidates(layer, "svd", ((1,),), (10,), 100) for layer in "ab"),
        dense=Cost(params=0, macs=200, bytes=0),
        budget=Budget(macs=110),
    )
    trials = [Trial(plan, 1.0, joint=True) for plan in probes(space)]
    assert len(allocate(space, options_of(space, trials)).choices) == 1, "no price tells one from the other"


def test_an_allocation_takes_a_budget() -> None:
    with pytest.raises(ValueError, match="divides a budget; the search space has none"):
        allocate(toy(), {})


def test_a_table_is_filled_layer_after_layer_and_leaves_what_others_are_at() -> None:
    space = blind(toy(Budget(macs=4000), layers=2, formats=2, ranked=2))
    order = probes(space)
    assert len(order) == 8
    assert order[0] == Plan((Choice("layer0", "svd", (1,)),))
    trials = [trial_of(space, plan) for plan in order[:3]]
    assert missing_probe(space, trials, ()) == order[3]
    assert missing_probe(space, trials, order[3:5]) == order[5]
    assert missing_probe(space, trials, order[3:]) is None
    assert not is_complete(space, trials)
    assert is_complete(space, [trial_of(space, plan) for plan in order])
    tuned = [replace(trial_of(space, plan), joint=False) for plan in order]
    assert missing_probe(space, tuned, ()) == order[0], "a fine-tuned layer says nothing of an untuned one"


@given(tables())
def test_where_errors_are_known_three_rows_of_a_layer_are_tried(drawn: tuple[SearchSpace, Losses]) -> None:
    space, _ = drawn
    order = probes(space)
    assert len(set(order)) == len(order)
    for layer, formats in space.by_layer().items():
        rows = [choice for plan in order for choice in plan.choices if choice.layer == layer]
        assert 1 <= len(rows) <= 3
        assert all(space.candidates_for(row).position(row) in anchors(space.candidates_for(row)) for row in rows)
        assert all(len(anchors(candidates)) == min(3, len(candidates.ranks)) for candidates in formats)


def test_the_rows_of_a_layer_span_the_errors_of_all_its_formats_and_leave_out_what_is_dearer_and_worse() -> None:
    good = RankCandidates("a", "cp-epc", ((1,), (2,), (3,)), (10, 25, 50), 100, errors=(0.5, 0.2, 0.01))
    poor = RankCandidates("a", "svd", ((1,), (2,), (3,)), (9, 25, 50), 100, errors=(0.8, 0.6, 0.4))
    space = SearchSpace((good, poor), dense=Cost(10, 100, 40))
    assert probes(space) == [single_layer_plan(poor, 0), single_layer_plan(good, 0), single_layer_plan(good, 1)]
    trials = [Trial(plan, loss, joint=True) for plan, loss in zip(probes(space), (4.096, 0.625, 0.016), strict=True)]
    found = {
        (o.candidates.format, o.position): o.loss for o in options_of(space, trials)["a"] if o.candidates is not None
    }
    assert found == pytest.approx(  # 10 error^4 and 10 error^4, up to 0.5 and down to 0.2
        {("svd", 0): 4.096, ("cp-epc", 0): 0.625, ("cp-epc", 1): 0.016, ("cp-epc", 2): 0.016 / 20**4}, rel=1e-6
    )


def test_one_table_serves_every_budget_and_is_exact_where_loss_is_a_power_of_the_error() -> None:
    space = toy(Budget(macs=5000), ranked=12)
    trials = [trial_of(space, plan) for plan in probes(space)]
    assert probes(replace(space, budget=Budget(macs=2000))) == probes(space)
    table, every = options_of(space, trials), options_of(blind(space), _all_rows(space))
    for layer, options in every.items():
        exact = {option.macs: option.loss for option in options}
        assert all(option.loss == pytest.approx(exact[option.macs], rel=0.02) for option in table[layer])


def _all_rows(space: SearchSpace) -> list[Trial]:
    return [trial_of(space, plan) for plan in probes(blind(space))]


def test_options_are_dense_first_and_without_those_that_another_beats() -> None:
    first = RankCandidates("a", "svd", ((1,), (2,), (3,)), (10, 20, 30), 100, (1, 2, 3), 10)
    second = RankCandidates("a", "cp", ((1,),), (15,), 100, (9,), 10)
    space = SearchSpace((first, second), dense=Cost(10, 100, 40))
    drops = {(10, "svd"): 5.0, (20, "svd"): 1.0, (30, "svd"): 2.0, (15, "cp"): 1.0}
    trials = [
        Trial(single_layer_plan(candidates, at), drops[candidates.macs[at], candidates.format], joint=True)
        for candidates in (first, second)
        for at in range(len(candidates.ranks))
    ]
    found = options_of(space, trials)["a"]
    assert [
        (option.candidates.format if option.candidates else None, option.macs, option.loss) for option in found
    ] == [
        (None, 0, 0.0),
        ("svd", 70, 1.0),  # rank 3 loses no more than rank 2
        ("svd", 80, 1.0),
        ("cp", 85, 1.0),
        ("svd", 90, 5.0),
    ]
    gains = options_of(space, [replace(trial, drop=-1.0) for trial in trials])["a"]
    assert {option.loss for option in gains} == {0.0}, "a layer does not lose less than nothing"


@given(tables(), st.lists(st.floats(1e-3, 1.0), min_size=3, max_size=3))
def test_a_point_is_projected_onto_the_edge_of_the_budget(
    drawn: tuple[SearchSpace, Losses], shares: list[float]
) -> None:
    space, _ = drawn
    ratios = RatioSpace.of(space)
    point = shares[: len(ratios.options)]
    plan = ratios.plan(point)
    assert plan is not None
    assert space.admits(plan)
    kept = dict(zip(ratios.options, ratios.shares(plan), strict=True))
    for layer, options in ratios.options.items():  # no layer can take its next option
        costs = [ratios.cost(layer, option) for option in options]
        at = max(at for at, cost in enumerate(costs) if cost <= kept[layer] * costs[-1] * (1 + 1e-9))
        if at + 1 < len(options):
            candidates = options[at + 1].candidates
            rest = tuple(choice for choice in plan.choices if choice.layer != layer)
            further = Plan(
                rest
                if candidates is None
                else (*rest, *single_layer_plan(candidates, options[at + 1].position).choices)
            )
            assert not space.admits(further)
    again = ratios.plan(ratios.shares(plan))
    assert again == plan, "a plan on the edge is its own projection"


@given(tables())
def test_options_of_a_ratio_cost_more_and_err_less_one_after_the_other(drawn: tuple[SearchSpace, Losses]) -> None:
    space = RatioSpace.of(drawn[0])
    for layer, options in space.options.items():
        assert options[-1].candidates is None
        for one, other in itertools.pairwise(options):
            assert space.cost(layer, one) <= space.cost(layer, other)
            assert one.loss >= other.loss


@given(tables())
def test_uniform_ranks_keep_the_budget_and_no_larger_share_does(drawn: tuple[SearchSpace, Losses]) -> None:
    space, _ = drawn
    plan = uniform_within(space)
    assert space.admits(plan)
    costs = [space.cost(Uniform().family(space)(share / 200)) for share in range(201)]
    admitted = [cost.macs for cost in costs if space.budget is not None and space.budget.admits(cost)]
    assert space.cost(plan).macs >= max(admitted, default=0)
