"""Plans by hand and plans beforehand: carried out as they are, and priced without being tried."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Net, corner_task, faithful, images
from torch import nn

from disks import files_in
from polyadic import CompressOptions, PolyadicError, compress
from polyadic.errors import BudgetError, LayerError
from polyadic.pipeline import estimate_cost, find_plan
from polyadic.schema import Choice, Plan
from polyadic.search import search_named
from polyadic.surgery import FactorCache, network_cost, rebuild

BY_HAND = Plan((Choice("stem", "tucker2", (2, 4)), Choice("head", "svd", (2,))))


def carried_out(net: nn.Module, plan: Plan, **more: Any) -> Any:
    return compress(net, faithful(net), images(2), plan=plan, **more)


def test_a_plan_by_hand_is_carried_out_and_nothing_is_searched(net: nn.Module, tmp_path: Path) -> None:
    result = carried_out(net, BY_HAND, options=CompressOptions(work=tmp_path))
    assert result.plan == BY_HAND
    assert result.summary.provenance["trials"] == 0
    assert result.summary.provenance["search"] is None
    assert files_in(tmp_path) == {"trials.jsonl"}
    assert network_cost(result.model, images(1)) == network_cost(rebuild(Net(), BY_HAND), images(1))
    fates = {layer.name: (layer.status, layer.rank, layer.reason) for layer in result.summary.layers}
    assert fates["stem"][:2] == ("factorised", [2, 4])
    assert fates["mix"] == ("dense", None, "the plan does not name it")


@pytest.mark.parametrize("search", ["frontier", "uniform"])
def test_the_plan_of_a_search_gives_the_network_of_that_search(net: nn.Module, search: str) -> None:
    known: dict[str, Any] = {"formats": ("tucker2", "svd")}
    options = CompressOptions(search=search_named(search), candidates_per_layer=3)
    plan = find_plan(net, corner_task(), budget=["macs=60%"], **known, options=options).plan
    searched = compress(net, corner_task(tuned=True), budget=["macs=60%"], **known, options=options)
    by_hand = compress(net, corner_task(tuned=True), plan=Plan.from_json(plan.to_json()))
    assert by_hand.plan == searched.plan == plan
    for name, value in searched.model.state_dict().items():
        assert torch.equal(by_hand.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("plan", "more", "error", "words"),
    [
        (Plan(), {}, LayerError, "names at least one layer; got none"),
        (Plan((Choice("tail", "svd", (1,)),)), {}, LayerError, "no layer 'tail'"),
        (Plan((Choice("head", "svd", (9,)),)), {}, LayerError, "svd rank 9 is out of bounds"),
        (Plan((Choice("head", "tucker2", (1, 1)),)), {}, LayerError, "tucker2 cannot be used here"),
        (Plan((Choice("twice", "svd", (1,)),)), {}, LayerError, "can be replaced; got 'twice': it shares its weight"),
        (BY_HAND, {"budget": ["params=10%"]}, BudgetError, "with the given plan the network costs params"),
        (BY_HAND, {"max_drop": -1.0}, PolyadicError, "max_drop is a number of points"),
    ],
)
def test_plans_that_do_not_fit_are_refused_before_anything_is_scored(
    plan: Plan, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(10, 10, 1)
            self.twice.weight = self.mix.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.twice(torch.zeros(len(x), 10, 1, 1)).sum() * 0

    with pytest.raises(error, match=words):
        compress(Twice(), lambda _: pytest.fail("scored"), images(1), plan=plan, **more)


def test_a_plan_within_its_budget_and_drop_is_measured_by_them(net: nn.Module) -> None:
    result = carried_out(net, BY_HAND, budget=["params=90%"], max_drop=0.5)
    assert result.summary.max_drop == 0.5
    assert "more than the 0.5 allowed" in result.summary.warnings[0]


@pytest.mark.parametrize("search", ["uniform", "vbmf", "error-bound"])
@pytest.mark.parametrize("budget", [["macs=50%"], ["params=1k"], ["bytes=40%"]])
def test_a_forecast_costs_what_it_says_and_leaves_the_model_alone(
    net: nn.Module, search: str, budget: list[str]
) -> None:
    state = copy.deepcopy(net.state_dict())
    options = CompressOptions(search=search_named(search), candidates_per_layer=4)
    planned = estimate_cost(net, images(1), budget=budget, formats=("tucker2", "svd"), options=options)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert planned.dense == network_cost(net, images(1))
    assert planned.cost == network_cost(rebuild(copy.deepcopy(net), planned.plan), images(1))
    assert sum(layer.macs_after for layer in planned.layers) == planned.cost.macs


def test_a_uniform_forecast_gives_every_layer_the_same_share(net: nn.Module) -> None:
    planned = estimate_cost(net, images(1), budget=["macs=50%"], formats=("tucker2", "svd"))
    assert 0.95 * planned.dense.macs < 2 * planned.cost.macs <= planned.dense.macs
    shares = {layer.name: layer.macs_after / layer.macs_before for layer in planned.layers}
    assert all(0.35 < shares[name] <= 0.65 for name in ("stem", "mix", "deep.1")), shares  # the head takes 1 % of all


def test_a_forecast_says_why_a_layer_stays_dense(net: nn.Module) -> None:
    options = CompressOptions(exclude=("ste*",))
    planned = estimate_cost(net, images(1), budget=["params=85%"], formats=("svd",), options=options)
    layers = {layer.name: layer for layer in planned.layers}
    assert layers["stem"].reason == "excluded"
    assert "svd" in str(layers["deep.1"].reason)
    assert (layers["head"].format, layers["head"].reason) == ("svd", None)
    assert layers["deep.1"].macs_after == layers["deep.1"].macs_before


@pytest.mark.parametrize(
    ("search", "budget", "words"),
    [
        ("frontier", ["macs=50%"], "frontier needs trials, and an estimate makes none"),
        ("bisection", ["macs=50%"], "bisection finds ranks for a drop"),
        ("uniform", [], "an estimate takes a budget"),
        ("uniform", ["macs=1%"], "still costs macs"),
    ],
)
def test_what_cannot_be_forecast_is_refused(net: nn.Module, search: str, budget: list[str], words: str) -> None:
    options = CompressOptions(search=search_named(search), cache=FactorCache(None))
    with pytest.raises(BudgetError, match=words):
        estimate_cost(net, images(1), budget=budget, formats=("tucker2", "svd"), options=options)
