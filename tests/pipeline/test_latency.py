"""Networks within a time, on an engine whose times are known exactly."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from subjects import faithful, images
from torch import Tensor, nn

from fake_engine import CALL, FakeEngine, fake_model, known_times
from polyadic import CompressionResult, CompressOptions, compress
from polyadic.engines import Conditions, LatencyCache
from polyadic.errors import BudgetError, EngineError
from polyadic.pipeline import estimate_cost, find_plan
from polyadic.pipeline.alarm import NO_SAMPLES
from polyadic.schema import Budget, Choice, Plan
from polyadic.search import search_named

FORMATS = ("tucker2", "svd")
SEARCHES = ["uniform", "error-bound", "vbmf", "greedy", "frontier", "pars"]


def options(engine: FakeEngine | None = None, search: str = "uniform", **known: object) -> CompressOptions:
    strategy = search_named("pars", evaluations=12, initial=5) if search == "pars" else search_named(search)
    model = known.pop("latency", None) or fake_model(engine)
    return CompressOptions(search=strategy, candidates_per_layer=4, round_to=1, latency=model, alarm_at=1.0, **known)  # type: ignore[arg-type]


def within(net: nn.Module, budget: list[str], known: CompressOptions) -> CompressionResult:
    return compress(net, faithful(net), images(2), budget=budget, formats=FORMATS, options=known)


def exact(network: nn.Module, engine: FakeEngine, batch: int = 1) -> float:
    """What the fake engine needs for a network."""
    conditions = Conditions(batch)
    prepared = engine.prepare(network, images(batch), conditions)
    return known_times({"it": prepared}, conditions)["it"].median


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("budget", [["latency=60%"], ["latency=1.5x", "params=70%"], ["macs=80%", "latency=70%"]])
def test_every_search_keeps_a_limit_of_latency_and_uses_it(net: nn.Module, search: str, budget: list[str]) -> None:
    engine = FakeEngine()
    result = within(net, budget, options(engine, search))
    summary = result.summary
    assert summary.dense.latency == pytest.approx(exact(net, engine))
    assert summary.compressed.latency == pytest.approx(exact(result.model, engine))
    assert 0.8 < Budget.parse(budget, summary.dense).use(summary.compressed) <= 1.0 + 1e-9
    assert summary.warnings == (NO_SAMPLES,)


def test_what_was_predicted_and_measured_is_said_and_each_layer_s_share_of_it(net: nn.Module) -> None:
    engine = FakeEngine()
    result = within(net, ["latency=60%"], options(engine))
    said = result.summary.provenance["latency"]
    assert said["where"] == "fake 1, batch 1, 1 thread, float32"
    assert (
        said["predicted_ms"] == pytest.approx(said["measured_ms"]) == pytest.approx(result.summary.compressed.latency)
    )
    layers = {layer.name: layer for layer in result.summary.layers}
    before = sum(layer.latency_before or 0.0 for layer in layers.values())
    after = sum((layer.latency_after or layer.latency_before or 0.0) for layer in layers.values())
    assert said["dense_ms"] - said["predicted_ms"] == pytest.approx(before - after)
    assert all((layer.latency_measured is not None) == (layer.status == "factorised") for layer in layers.values())


def test_milliseconds_are_those_of_a_whole_batch(net: nn.Module) -> None:
    engine = FakeEngine()
    one, eight = (
        estimate_cost(
            net,
            images(1),
            budget=["latency=50%"],
            formats=FORMATS,
            options=options(latency=fake_model(engine, batch=n)),
        )
        for n in (1, 8)
    )
    assert eight.dense.latency == pytest.approx(8 * ((one.dense.latency or 0.0) - CALL) + CALL)
    assert {shape[0] for shape in engine.prepared} == {1, 8}
    absolute = estimate_cost(
        net,
        images(1),
        budget=[f"latency={(one.dense.latency or 0) * 500:.3f}us"],
        formats=FORMATS,
        options=options(engine),
    )
    assert absolute.plan == one.plan


def slow_windows(layer: nn.Module, outputs: Tensor) -> float:
    """The time is in the calls: each layer takes 1 ms, one with a window over several channels 5 ms."""
    windowed = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    return 5.0 if windowed else 1.0


def test_only_what_is_faster_takes_a_layer_s_place_and_the_report_says_why(net: nn.Module) -> None:
    """An SVD splits the 1 x 1 layers in two, which is slower here however few its MACs; Tucker-2 keeps the window."""
    engine = FakeEngine(lambda layer, outputs: slow_windows(layer, outputs))
    with pytest.raises(BudgetError, match=r"no layer can be made faster by tucker2, svd on fake 1, batch 1"):
        within(net, ["macs=70%"], options(engine))

    def narrow(layer: nn.Module, outputs: Tensor) -> float:  # 3 x 3 layers get cheaper with their channels
        weight = layer.get_parameter("weight")
        return weight.shape[1] * 1.0 if weight.ndim == 4 and weight.shape[-1] > 1 else 0.5

    result = within(net, ["latency=80%"], options(FakeEngine(narrow), "frontier"))
    outcomes = {layer.name: layer for layer in result.summary.layers}
    assert outcomes["mix"].status == outcomes["head"].status == "dense"
    assert outcomes["mix"].reason == "no block of the formats was faster on fake at batch 1"
    assert outcomes["deep.1"].format == "tucker2"
    unasked = within(net, ["macs=40%"], replace(options(FakeEngine(narrow)), require_speedup=False))
    assert unasked.plan.of("mix") is not None, "slower, and smaller"


def test_the_format_is_that_of_least_time_not_of_fewest_macs(net: nn.Module) -> None:
    """On an engine on which 1 x 1 layers are dear, the two stages of a spatial SVD beat the three of a Tucker-2."""

    def dear_mixing(layer: nn.Module, outputs: Tensor) -> float:
        weight = layer.get_parameter("weight")
        windowed = weight.ndim == 4 and weight.shape[-2:] != (1, 1)
        return weight.numel() / 100 if windowed else 3.0

    def chosen(known: CompressOptions, budget: str) -> Choice | None:
        formats = ("tucker2", "spatial-svd")
        return compress(net, faithful(net), images(2), budget=[budget], formats=formats, options=known).plan.of(
            "deep.1"
        )

    known = options(FakeEngine(dear_mixing), "error-bound")
    fastest, smallest = chosen(known, "latency=80%"), chosen(replace(known, latency=None), "macs=50%")
    assert fastest is not None
    assert smallest is not None
    assert (fastest.format, smallest.format) == ("spatial-svd", "tucker2")


def test_ranks_that_are_as_slow_as_a_larger_one_are_not_offered(net: nn.Module) -> None:
    """On an engine that works in blocks of four channels every rank costs as much as the next multiple of four."""

    def blocked(layer: nn.Module, outputs: Tensor) -> float:
        weight = layer.get_parameter("weight")
        return (-(-weight.shape[0] // 4)) * (-(-weight.shape[1] // 4)) * weight[0, 0].numel() / 10.0

    known = replace(options(FakeEngine(blocked), "error-bound"), candidates_per_layer=20)
    found = find_plan(net, faithful(net), images(2), budget=["latency=75%"], formats=("spatial-svd",), options=known)
    assert found.plan.choices
    assert all(choice.rank[0] % 4 == 0 for choice in found.plan.choices)


def test_a_network_that_is_slower_than_its_blocks_said_is_concluded_anew_until_it_is_in_time(net: nn.Module) -> None:
    found, alone = (
        find_plan(
            net,
            faithful(net),
            images(2),
            budget=["latency=85%"],
            formats=FORMATS,
            options=options(FakeEngine(whole=whole), "frontier"),
        )
        for whole in (1.2, 1.0)
    )
    assert found.speed is not None
    assert alone.speed is not None
    assert found.speed.corrections >= 1
    assert alone.speed.corrections == 0
    assert found.speed.predicted < found.speed.measured <= 0.85 * found.speed.dense * (1 + 1e-9)
    assert found.trials == alone.trials, "no layer and no network is scored again"


def test_a_network_that_is_faster_than_its_blocks_said_gets_higher_ranks_until_the_limit_is_used(
    net: nn.Module,
) -> None:
    result = within(net, ["latency=60%"], options(FakeEngine(whole=0.7)))
    exact_budget = within(net, ["latency=60%"], options(FakeEngine()))
    speed = result.summary.provenance["latency"]
    assert speed["corrections"] >= 1
    assert 0.5 * speed["dense_ms"] < speed["measured_ms"] <= 0.6 * speed["dense_ms"] * (1 + 1e-9)
    assert result.summary.compressed.macs > exact_budget.summary.compressed.macs


def test_a_limit_that_stays_out_of_reach_is_said_with_both_times(net: nn.Module) -> None:
    known = options(FakeEngine(whole=3.0), require_speedup=False)
    result = within(net, ["latency=30%"], known)
    assert re.search(r"takes [\d.]+ ms on fake 1.*, more than the [\d.]+ ms allowed", result.summary.warnings[0])


def test_where_the_whole_is_not_faster_layers_are_dense_again_in_the_end_all_of_them(net: nn.Module) -> None:
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = compress(
        net, faithful(net), images(2), max_drop=50.0, formats=FORMATS, options=options(FakeEngine(whole=50.0), "greedy")
    )
    assert result.plan == Plan()
    assert "no plan was faster than the dense network as a whole on fake 1" in result.summary.warnings[0]
    assert all(torch.equal(tensor, state[name]) for name, tensor in result.model.state_dict().items())
    assert len(result.summary.provenance["latency"]["put_back"]) >= 1
    assert result.summary.compressed.latency == result.summary.dense.latency


def test_a_limit_of_latency_keeps_no_network_that_is_slower_than_the_dense_one(net: nn.Module) -> None:
    result = within(net, ["latency=60%"], options(FakeEngine(whole=50.0)))
    assert result.plan == Plan()
    assert result.summary.compressed.latency == result.summary.dense.latency
    assert "no plan was faster than the dense network as a whole on fake 1" in result.summary.warnings[0]
    assert re.search(r"takes [\d.]+ ms on fake 1.*, more than the [\d.]+ ms allowed", result.summary.warnings[1])
    small = within(net, ["latency=60%", "params=70%"], options(FakeEngine(whole=50.0)))
    assert small.plan.choices, "the other limit is kept"
    assert "is not faster than the dense one on fake 1" in small.summary.warnings[0]


def test_without_a_budget_the_cheapest_network_is_the_fastest(net: nn.Module) -> None:
    def windows_only(layer: nn.Module, outputs: Tensor) -> float:
        return per_window(layer, outputs)

    fast = compress(
        net,
        faithful(net),
        images(2),
        max_drop=3.0,
        formats=FORMATS,
        options=options(FakeEngine(windows_only), "greedy"),
    )
    small = compress(
        net,
        faithful(net),
        images(2),
        max_drop=3.0,
        formats=FORMATS,
        options=replace(options(search="greedy"), latency=None),
    )
    engine = FakeEngine(windows_only)
    assert exact(fast.model, engine) <= 1.01 * exact(small.model, engine)  # both descents are greedy
    assert fast.plan != small.plan


def per_window(layer: nn.Module, outputs: Tensor) -> float:
    """Layers with a window take all the time."""
    weight = layer.get_parameter("weight")
    windowed = weight.ndim == 4 and weight.shape[-1] > 1
    return weight.numel() / 100 if windowed else weight.numel() / 10_000


def test_bisection_goes_by_time_too(net: nn.Module) -> None:
    result = compress(
        net,
        faithful(net),
        images(2),
        max_drop=3.0,
        formats=FORMATS,
        options=options(FakeEngine(per_window), "bisection"),
    )
    assert result.plan.of("deep.1") is not None
    assert (result.summary.compressed.latency or 0) < (result.summary.dense.latency or 0)


def test_a_plan_of_the_user_is_timed_and_left_as_it_is(net: nn.Module) -> None:
    plan = Plan((Choice("mix", "svd", (4,)),))
    known = CompressOptions(latency=fake_model(FakeEngine(slow_windows)), alarm_at=1.0)
    result = compress(net, faithful(net), images(2), plan=plan, options=known)
    assert result.plan == plan
    assert (result.summary.compressed.latency or 0) == pytest.approx((result.summary.dense.latency or 0) + 1.0)
    assert "is not faster than the dense one on fake 1" in result.summary.warnings[0]


def test_a_second_run_measures_no_block_again_and_a_run_goes_on_with_its_trials(net: nn.Module, tmp_path: Path) -> None:
    runs = []
    for resume in (False, True):
        engine = FakeEngine()
        latency = fake_model(engine, LatencyCache(tmp_path / "times"))
        known = options(latency=latency, search="greedy", work=tmp_path / "work", resume=resume)
        found = find_plan(net, faithful(net), images(2), budget=["latency=60%"], formats=FORMATS, options=known)
        runs.append((len(engine.prepared), found))
    (first, found), (second, again) = runs
    assert second == 2, "the dense and the compressed network, against each other"
    assert first >= 20
    assert again.plan == found.plan
    assert again.trials == found.trials


def test_latency_without_an_engine_and_engines_without_a_format_are_refused(net: nn.Module) -> None:
    with pytest.raises(BudgetError, match="latency is the time on an engine: name one"):
        within(net, ["latency=5ms"], CompressOptions())
    with pytest.raises(BudgetError, match=r"the dense network keeps the budget \(latency <= 1,000 ms\) as it is"):
        within(net, ["latency=1s"], options())
    with pytest.raises(BudgetError, match=r"still costs latency [\d.]+ ms \([\d.]+ %\): allow more"):
        within(net, ["latency=1us"], options())
    quantized = replace(fake_model(), conditions=Conditions(precision="int8"))
    with pytest.raises(EngineError, match="blocks are timed with the weights that they have before quantization"):
        within(net, ["latency=50%"], options(latency=quantized))
    with pytest.raises(EngineError, match="fake: it knows float32 alone"):
        within(
            net, ["latency=50%"], options(latency=replace(fake_model(), conditions=Conditions(precision="bfloat16")))
        )
