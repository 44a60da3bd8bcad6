"""Rounds of factorisation and fine-tuning on an engine whose times are known exactly."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import corner_task, faithful, images, setup_of
from torch import Tensor, nn

from fake_engine import CALL, FakeEngine, fake_model, known_times, per_mac
from polyadic import CompressionResult, CompressOptions, Progress, compress
from polyadic.engines import Conditions, LatencyCache
from polyadic.errors import BudgetError
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.search import run_search
from polyadic.pipeline.setup import SearchSetup
from polyadic.schema import Choice, Plan
from polyadic.search import search_named
from polyadic.surgery import rebuild

FORMATS = ("tucker2", "svd")
SHARE = 0.5


def in_rounds(
    net: nn.Module, engine: FakeEngine, rounds: int = 3, search: str = "uniform", **more: Any
) -> CompressionResult:
    latency = fake_model(engine, more.pop("cache", None))
    show, task = more.pop("show", lambda _: None), more.pop("task", None) or corner_task(tuned=True)
    budget = more.pop("budget", (f"latency={SHARE:.0%}",))
    options = CompressOptions(
        search=search_named(search), candidates_per_layer=4, round_to=1, latency=latency, alarm_at=1.0, **more
    )
    return compress(
        net, task, images(1), budget=budget, formats=FORMATS, rounds=rounds, options=options, on_progress=show
    )


def exact(network: nn.Module, engine: FakeEngine) -> float:
    prepared = engine.prepare(network, images(1), Conditions(1))
    return known_times({"it": prepared}, Conditions(1))["it"].median


def second_of_two(net: nn.Module, plan: Plan, engine: FakeEngine, budget: str) -> SearchSetup:
    """The second round, begun with ``plan`` carried out."""
    network = rebuild(copy.deepcopy(net), plan)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    options = CompressOptions(
        search=search_named("frontier"), candidates_per_layer=4, round_to=1, latency=fake_model(engine)
    )
    stage = Round(net, 2, 2, network.eval(), plan)
    return setup_of(stage, faithful(net), images(1), budget=(budget,), formats=FORMATS, options=options)


@pytest.mark.parametrize("search", ["uniform", "vbmf", "frontier", "error-bound"])
def test_every_round_has_its_share_of_the_way_in_milliseconds(net: nn.Module, search: str) -> None:
    engine = FakeEngine()
    result = in_rounds(net, engine, search=search)
    dense, rounds = exact(net, engine), result.summary.provenance["rounds"]
    assert result.summary.dense.latency == pytest.approx(dense)
    times = [said["latency"] for said in rounds]
    for number, milliseconds in enumerate(times, start=1):
        assert milliseconds <= dense * SHARE ** (number / 3) * (1 + 1e-9)
    assert times[0] > 0.7 * dense * SHARE ** (1 / 3)
    assert times == sorted(times, reverse=True)
    assert result.summary.compressed.latency == pytest.approx(exact(result.model, engine)) == pytest.approx(times[-1])
    assert all("no better than chance" in warning for warning in result.summary.warnings)  # the network is untrained


def test_what_rounds_say_of_a_layer_s_time_begins_with_the_dense_layer(net: nn.Module) -> None:
    engine = FakeEngine()
    result = in_rounds(net, engine)
    again = {name for said in result.summary.provenance["rounds"][1:] for name in said["layers"]}
    assert again & set(result.summary.provenance["rounds"][0]["layers"]), "some layer was factorised twice"
    for layer in result.summary.layers:
        if layer.status == "factorised":
            spent = [layer.macs_before / 10_000, layer.macs_after / 10_000]
            assert [layer.latency_before, layer.latency_after] == pytest.approx(
                [CALL + time for time in spent], rel=0.02
            )


def test_a_factorised_layer_is_timed_as_the_chain_that_stands_in_its_place(net: nn.Module) -> None:
    """On an engine where calls are dear: the dense layer is one, its chain three."""

    def dear_calls(layer: nn.Module, outputs: Tensor) -> float:
        return 1.0 + 5.0 * per_mac(layer, outputs)

    plan = Plan((Choice("deep.1", "tucker2", (6, 6)),))
    setup = second_of_two(net, plan, FakeEngine(dear_calls), "latency=80%")
    (candidates,) = [one for one in setup.space.candidates if (one.layer, one.format) == ("deep.1", "tucker2")]
    stages = [10 * 6 * 64, 6 * 6 * 9 * 16, 6 * 10 * 16]
    assert candidates.dense_macs == sum(stages)
    assert candidates.dense_time == pytest.approx(CALL + sum(1.0 + macs / 2_000 for macs in stages))
    assert all(time < candidates.dense_time for time in candidates.times)
    assert setup.space.dense.latency == pytest.approx(exact(setup.round.network, FakeEngine(dear_calls)))
    assert setup.cost.latency == pytest.approx(exact(net, FakeEngine(dear_calls)))
    assert "head" not in setup.space.by_layer(), "two calls in the place of a short one are slower here"


def test_a_round_that_makes_the_whole_slower_leaves_what_it_found(net: nn.Module) -> None:
    plan = Plan((Choice("stem", "tucker2", (3, 6)),))  # six layers in all: more are a hundred times slower
    engine = FakeEngine(whole=100.0, layers=6)
    setup = second_of_two(net, plan, engine, "latency=70%")
    standing = exact(setup.round.network, engine)
    found = run_search(setup)
    assert found.plan == Plan()
    assert found.latency is not None
    assert len(found.latency.put_back) >= 2
    assert found.latency.measured == pytest.approx(standing) == pytest.approx(setup.space.dense.latency)
    assert found.latency.dense == pytest.approx(exact(net, engine))
    carried, _ = setup.evaluator.apply(found.plan)
    for key, value in setup.round.network.state_dict().items():
        assert torch.equal(carried.state_dict()[key], value), key


def test_the_whole_is_held_to_the_limit_of_the_last_round(net: nn.Module) -> None:
    """Blocks promise more than the whole keeps, so limits are tightened until it does."""
    engine = FakeEngine(whole=1.2)
    result = in_rounds(net, engine, rounds=2, search="frontier", budget=("latency=80%",))
    assert (result.summary.compressed.latency or 0.0) <= 0.8 * exact(net, engine) * (1 + 1e-9)
    assert result.summary.compressed.latency == pytest.approx(exact(result.model, engine))
    assert all("no better than chance" in warning for warning in result.summary.warnings)  # the network is untrained
    speeds = [said["speed"] for said in result.summary.provenance["rounds"]]
    assert sum(speed["corrections"] for speed in speeds) >= 1
    assert all(a["measured_ms"] > b["measured_ms"] for a, b in pairwise(speeds))


def test_limits_of_several_costs_hold_in_every_round(net: nn.Module) -> None:
    engine = FakeEngine()
    result = in_rounds(net, engine, rounds=2, budget=("latency=70%", "macs=50%"))
    dense = result.summary.dense
    for number, said in enumerate(result.summary.provenance["rounds"], start=1):
        assert said["latency"] <= (dense.latency or 0.0) * 0.7 ** (number / 2) * (1 + 1e-9)
        assert said["macs"] <= dense.macs * 0.5 ** (number / 2)


def test_a_limit_of_macs_and_an_engine_replace_nothing_that_is_not_faster(net: nn.Module) -> None:
    def dear_calls(layer: nn.Module, outputs: Tensor) -> float:
        return 2.0 + 30.0 * per_mac(layer, outputs)

    result = in_rounds(net, FakeEngine(dear_calls), rounds=2, budget=("macs=60%",))
    assert {choice.layer for choice in result.plan.choices} == {"stem", "mix", "deep.1"}, "the head is one short call"
    assert (result.summary.compressed.latency or 0.0) < (result.summary.dense.latency or 0.0)


def test_a_killed_run_goes_on_with_the_times_that_it_began_with(net: nn.Module, tmp_path: Path) -> None:
    class Killed(BaseException):
        """As a kill: nothing catches it."""

    def kill(progress: Progress) -> None:
        if progress.stage == "finetune 2/3":
            raise Killed

    kept = {"search": "frontier", "task": corner_task(tuned=True)}
    whole = in_rounds(net, FakeEngine(), work=tmp_path / "whole", cache=LatencyCache(tmp_path / "a"), **kept)
    with pytest.raises(Killed):
        in_rounds(net, FakeEngine(), work=tmp_path / "cut", cache=LatencyCache(tmp_path / "b"), show=kill, **kept)
    seen: list[str] = []
    again = in_rounds(
        net,
        FakeEngine(),
        work=tmp_path / "cut",
        cache=LatencyCache(tmp_path / "b"),
        resume=True,
        show=lambda progress: seen.append(progress.stage),
        **kept,
    )
    assert not [stage for stage in seen if stage.endswith("1/3") and stage != "time 1/3"]
    assert again.plan == whole.plan
    assert all(torch.equal(again.model.state_dict()[key], value) for key, value in whole.model.state_dict().items())
    first, second = (run.summary.provenance["rounds"] for run in (whole, again))
    assert [said["latency"] for said in first] == [said["latency"] for said in second]
    assert again.summary.layers == whole.summary.layers


def test_a_limit_out_of_reach_and_an_engine_on_which_nothing_is_faster(net: nn.Module) -> None:
    def never(progress: Progress) -> None:
        assert progress.stage.startswith("time"), "nothing is tried"

    with pytest.raises(BudgetError, match=r"the budget is latency <= [\d.]+ ms; with every layer at its lowest rank"):
        in_rounds(net, FakeEngine(), rounds=4, budget=("latency=1%",), show=never)
    with pytest.raises(BudgetError, match="the dense network is the fastest there"):
        in_rounds(net, FakeEngine(lambda layer, outputs: 1.0), rounds=2, show=never)
    plan = Plan((Choice("stem", "tucker2", (3, 6)), Choice("deep.1", "tucker2", (6, 6))))
    with pytest.raises(BudgetError, match="the network that the earlier rounds have left is the fastest there"):
        second_of_two(net, plan, FakeEngine(lambda layer, outputs: 1.0), "latency=70%")
