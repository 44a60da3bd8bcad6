"""A network within a budget: what it costs is counted by torch, on the network that came out."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from subjects import Net, corner_task, faithful, images, nearly_low_rank
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from polyadic import CompressionResult, CompressOptions, compress
from polyadic.errors import BudgetError
from polyadic.pipeline import find_plan
from polyadic.pipeline.alarm import NO_SAMPLES
from polyadic.pipeline.search import fill_budget
from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search import RankCandidates, SearchSpace, search_named
from polyadic.surgery import network_cost

FORMATS = ("tucker2", "svd")
LARGEST = {"stem": (3, 10), "mix": (10,), "deep.1": (10, 10), "head": (3,)}
LIMITS = {
    "macs": ["macs=60%"],
    "params": ["params=1.8x"],
    "bytes": ["bytes=55%"],
    "bytes, hardly any": ["bytes=7kB"],
    "macs and params": ["macs=70%", "params=50%"],
}


def within(net: nn.Module, budget: list[str], search: str | None = None, **options: object) -> CompressionResult:
    chosen = search_named(search) if search is not None else None
    known = CompressOptions(search=chosen, candidates_per_layer=4, **options)  # type: ignore[arg-type]
    return compress(net, faithful(net), images(2), budget=budget, formats=FORMATS, options=known)


def use(budget: list[str], result: CompressionResult) -> float:
    """The largest share of a limit that the network takes, by torch's own count."""
    limits = Budget.parse(budget, network_cost(result.dense, images(1)))
    return limits.use(network_cost(result.model, images(1)))


@pytest.mark.parametrize("budget", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("search", ["uniform", "error-bound", "vbmf", "greedy", "frontier"])
def test_every_search_keeps_every_budget_and_uses_it(net: nn.Module, search: str, budget: list[str]) -> None:
    assert 0.8 < use(budget, within(net, budget, search)) <= 1.0


@pytest.mark.parametrize("search", ["error-bound", "vbmf"])
def test_errors_and_suggestions_are_those_of_a_trained_network_with_its_images(net: nn.Module, search: str) -> None:
    options = CompressOptions(search=search_named(search), candidates_per_layer=4)
    result = compress(net, corner_task(), budget=["macs=60%"], formats=FORMATS, options=options)
    assert 0.9 < use(["macs=60%"], result) <= 1.0
    assert all(layer.weighted_error is not None for layer in result.summary.layers if layer.status == "factorised")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_forecast_of_the_cost_is_exact_whatever_the_numbers(dtype: torch.dtype) -> None:
    net = nearly_low_rank().to(dtype)
    options = CompressOptions(search=search_named("uniform"))

    def score(model: nn.Module) -> float:
        return float(model(images(1).to(dtype)).sum() * 0)

    common = {"budget": ["bytes=60%"], "formats": FORMATS, "options": options}
    found = find_plan(net, score, images(1).to(dtype), **common)
    result = compress(net, score, images(1).to(dtype), **common)
    assert found.tried.cost == network_cost(result.model, images(1).to(dtype))
    assert found.plan == result.plan


def test_parameters_behind_a_parametrisation_count_as_what_they_are(net: nn.Module) -> None:
    """weight_norm holds a magnitude for each output beside the kernel; both go when the layer is replaced."""
    weight_norm(net.get_submodule("mix"))
    assert network_cost(net, images(1)).params == network_cost(Net(), images(1)).params + 10
    options = CompressOptions(search=search_named("uniform"))
    common = {"max_drop": None, "budget": ["params=60%"], "formats": FORMATS, "options": options}
    found = find_plan(net, faithful(net), images(1), **common)
    result = compress(net, faithful(net), images(1), **common)
    assert found.plan.of("mix") is not None
    assert found.tried.cost == network_cost(result.model, images(1))


def candidates(layer: str, costs: list[int], dense: int) -> RankCandidates:
    ranks = tuple((rank,) for rank in range(1, len(costs) + 1))
    return RankCandidates(layer, "svd", ranks, tuple(costs), dense, tuple(costs), dense)


def test_topping_up_leaves_no_room_for_one_rank_more() -> None:
    all_candidates = (candidates("a", [*range(10, 100, 10)], 100), candidates("b", [*range(7, 300, 7)], 301))
    space = SearchSpace(all_candidates, dense=Cost(401, 401, 1604), budget=Budget(macs=200))
    plan = Plan((Choice("a", "svd", (2,)), Choice("b", "svd", (3,))))
    topped = fill_budget(space, plan)
    assert space.cost(plan).macs == 41
    assert space.cost(topped).macs <= 200
    for choice in topped.choices:
        (rank,) = choice.rank
        higher = Plan(tuple(replace(c, rank=(rank + 1,)) if c is choice else c for c in topped.choices))
        assert space.cost(higher).macs > 200
    ranks = [choice.rank[0] for choice in topped.choices]
    assert ranks[0] > 2
    assert ranks[1] > 3
    assert fill_budget(replace(space, budget=None), plan) == plan


def test_topping_up_uses_what_the_few_ranks_of_the_search_left(net: nn.Module) -> None:
    budget = ["macs=55%"]
    found = find_plan(
        net,
        faithful(net),
        images(2),
        budget=budget,
        formats=FORMATS,
        options=CompressOptions(search=search_named("pars", evaluations=6, initial=4), candidates_per_layer=3),
    )
    tried = max(one.cost.macs for one in found.front if one.plan != found.plan)
    limit = Budget.parse(budget, found.dense).macs
    assert limit is not None
    assert tried < found.tried.cost.macs <= limit


def test_what_is_left_of_a_loose_budget_makes_layers_dense_again(net: nn.Module) -> None:
    result = within(net, ["macs=97%"], "uniform")
    assert 0.9 < use(["macs=97%"], result) <= 1.0
    assert 1 <= len(result.plan.choices) < 4


@pytest.mark.parametrize("search", ["uniform", "frontier"])
def test_only_multiples_are_taken_where_there_are_any(net: nn.Module, search: str) -> None:
    for multiple in (2, 4):
        result = within(net, ["macs=50%"], search, round_to=multiple)
        parts = [
            part
            for choice in result.plan.choices
            for part, most in zip(choice.rank, LARGEST[choice.layer], strict=True)
            if multiple <= part < most
        ]
        assert len(parts) >= 3
        assert all(part % multiple == 0 for part in parts)


@pytest.mark.parametrize(
    ("budget", "options", "words"),
    [
        (["macs=1%"], {}, r"the budget is macs <= \d+; with every layer at its lowest rank .* still costs macs [\d,]+"),
        (["macs=50%", "params=0.5%"], {}, r"still costs params [\d,]+ \(.* %\), macs [\d,]+ \(.* %\): allow more"),
        (["macs=100%"], {}, "the dense network keeps the budget .* as it is: ask for less"),
        (["latency=5ms"], {}, "latency is the time on an engine: name one .*; got 'latency=5ms' and none"),
        (["speed=2x"], {}, "a budget is macs=..., params=..., bytes=... or latency=..."),
        (["macs=50%"], {"search": search_named("bisection")}, "bisection finds ranks for a drop"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused_before_anything_is_scored(
    net: nn.Module, budget: list[str], options: dict[str, object], words: str
) -> None:
    with pytest.raises(BudgetError, match=words):
        compress(
            net,
            lambda _: pytest.fail("scored"),
            images(1),
            budget=budget,
            formats=FORMATS,
            options=CompressOptions(**options),  # type: ignore[arg-type]
        )


def test_what_is_said_to_be_the_least_is_possible(net: nn.Module) -> None:
    with pytest.raises(BudgetError, match="still costs macs") as refused:
        within(net, ["macs=0.01%"])
    least = str(refused.value).split("still costs macs ")[1].split(" ")[0].replace(",", "")
    result = within(net, [f"macs={least}"], "uniform")
    assert network_cost(result.model, images(1)).macs == int(least)


def test_a_drop_beside_a_budget_is_what_the_result_is_measured_by(net: nn.Module) -> None:
    known = {
        "budget": ["macs=30%"],
        "formats": FORMATS,
        "options": CompressOptions(search=search_named("uniform"), alarm_at=1.0),
    }
    alone, strict, easy = (
        compress(copy.deepcopy(net), faithful(net), images(2), max_drop=drop, **known) for drop in (None, 0.01, 99.0)
    )
    assert alone.plan == strict.plan == easy.plan
    assert alone.summary.max_drop is None
    assert alone.summary.warnings == easy.summary.warnings == (NO_SAMPLES,)
    assert "more than the 0.01 allowed" in strict.summary.warnings[0]
