from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fake_engine import CALL, FakeEngine, fake_model, known_times
from polyadic.engines import (
    Conditions,
    LatencyCache,
    LatencyModel,
    Measured,
    Prepared,
    Timing,
    draw_weights,
    engine_named,
    interpolate_time,
)
from polyadic.engines.latency_model import compare_times
from polyadic.formats import format_named
from polyadic.layers import plain_layer
from polyadic.schema import ConvSpec, chain_macs

WINDOW = ConvSpec(6, 8, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
CHAINS = [format_named("tucker2").stages(WINDOW, (rank, rank)) for rank in (1, 2, 4)]


def test_blocks_are_timed_against_their_layer_in_one_go_and_once_only(tmp_path: Path) -> None:
    engine = FakeEngine()
    model = fake_model(engine, LatencyCache(tmp_path), batch=2)
    rows = model.time_blocks(WINDOW, CHAINS, (5, 4))
    dense = CALL + 2 * WINDOW.macs((5, 4)) / 10_000
    assert [row.dense for row in rows] == pytest.approx([dense] * 3)
    assert [row.chain for row in rows] == pytest.approx([CALL + 2 * chain_macs(c, (5, 4)) / 10_000 for c in CHAINS])
    assert engine.prepared == [(2, 6, 5, 4)] * 4
    assert fake_model(engine, LatencyCache(tmp_path), batch=2).time_blocks(WINDOW, CHAINS[::-1], (5, 4)) == rows[::-1]
    assert len(engine.prepared) == 4
    fake_model(engine, LatencyCache(tmp_path), batch=2).time_blocks(WINDOW, CHAINS[:1], (5, 5))
    fake_model(engine, LatencyCache(tmp_path), batch=1).time_blocks(WINDOW, CHAINS[:1], (5, 4))
    assert len(engine.prepared) == 8, "another size and another batch are measured for themselves"


def test_a_chain_is_timed_against_the_chain_that_stands_in_its_place() -> None:
    model = fake_model()
    now, lower = CHAINS[2], CHAINS[:2]
    rows = model.time_blocks(now, lower, (5, 4))
    assert [row.dense for row in rows] == pytest.approx([CALL + chain_macs(now, (5, 4)) / 10_000] * 2)
    assert [row.chain for row in rows] == pytest.approx([CALL + chain_macs(c, (5, 4)) / 10_000 for c in lower])
    assert model.time_blocks((WINDOW,), lower, (5, 4)) == model.time_blocks(WINDOW, lower, (5, 4)) != rows


def test_blocks_stand_as_in_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain is a module of its own, so that an engine which runs chains in one call does so here."""
    seen: list[list[type[nn.Module]]] = []
    prepare = FakeEngine._prepare

    def watched(self: FakeEngine, model: nn.Module, *more: Any) -> Prepared:
        seen.append([type(module) for module in model.children()])
        return prepare(self, model, *more)

    monkeypatch.setattr(FakeEngine, "_prepare", watched)
    fake_model().time_blocks(WINDOW, CHAINS[:1], (5, 4))
    assert seen == [[nn.ReLU, nn.Conv2d, nn.ReLU], [nn.ReLU, nn.Sequential, nn.ReLU]]


def test_networks_are_known_by_their_structure_and_input(tmp_path: Path) -> None:
    engine = FakeEngine()
    model = fake_model(engine, LatencyCache(tmp_path))
    network, image = nn.Sequential(plain_layer(WINDOW)), torch.zeros(3, 6, 5, 5)
    time = model.time_network(network, image)
    assert time == pytest.approx(CALL + WINDOW.macs((5, 5)) / 10_000)
    draw_weights(network)
    assert fake_model(engine, LatencyCache(tmp_path)).time_network(network, image) == time
    assert len(engine.prepared) == 1
    assert model.time_network(network, torch.zeros(1, 6, 7, 7)) > time
    assert model.time_network(nn.Sequential(plain_layer(replace(WINDOW, out_channels=16))), image) > time


def test_the_noise_is_that_of_the_difference_in_a_round() -> None:
    drift = (1.0, 2.0, 3.0, 4.0, 5.0)
    steady = compare_times(Timing(tuple(1.0 + d for d in drift)), Timing(drift))
    assert (steady.dense, steady.chain, steady.noise) == (3.0, 2.0, 0.0)
    shaky = compare_times(Timing((2.0,) * 4), Timing((1.0, 1.2, 1.4, 1.6)))
    assert shaky.noise == pytest.approx(2 * 0.93 * 0.3 / 2)


def test_blocks_are_timed_anew_while_something_else_runs() -> None:
    steady, disturbed = (1.0,) * 5, (1.0, 2.0, 9.0, 2.0, 7.0)
    given = [disturbed, disturbed, steady, steady]
    taken: list[tuple[float, ...]] = []

    def timer(prepared: Mapping[str, Prepared], conditions: Conditions) -> dict[str, Timing]:
        taken.append(given[len(taken)])
        return {name: Timing(taken[-1] if name != "dense" else (4.0,) * 5) for name in prepared}

    rows = LatencyModel(FakeEngine(), Conditions(), timer=timer).time_blocks(WINDOW, CHAINS[:2], (5, 4))
    assert rows == (Measured(4.0, 1.0, 0.0),) * 2
    assert taken == [disturbed, disturbed, steady]


def test_on_a_machine_that_is_never_quiet_the_least_noise_counts() -> None:
    samples = iter([(1.0, 2.0, 9.0, 9.5), (1.0, 2.0, 3.0, 4.0), (1.0, 5.0, 9.0, 9.5), (1.0, 2.0, 9.0, 9.9)])

    def timer(prepared: Mapping[str, Prepared], conditions: Conditions) -> dict[str, Timing]:
        return {"dense": Timing((4.0,) * 4), "0": Timing(next(samples))}

    (row,) = LatencyModel(FakeEngine(), Conditions(), timer=timer).time_blocks(WINDOW, CHAINS[:1], (5, 4))
    assert row == compare_times(Timing((4.0,) * 4), Timing((1.0, 2.0, 3.0, 4.0)))
    assert next(samples, None) is None, "four attempts at most"


def test_between_measured_points_times_lie_on_straight_lines_through_them() -> None:
    known = {100: 1.0, 200: 3.0, 400: 4.0}
    assert [interpolate_time(known, macs) for macs in (100, 150, 200, 300, 400)] == [1.0, 2.0, 3.0, 3.5, 4.0]
    assert [interpolate_time(known, macs) for macs in (50, 900)] == [1.0, 4.0]
    with pytest.raises(ValueError, match="at least one measured point"):
        interpolate_time({}, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "pytorch"])
def test_on_a_real_engine_a_much_smaller_block_is_faster(name: str) -> None:
    engine = engine_named(name)
    if engine.missing() is not None:
        pytest.skip(str(engine.missing()))
    spec = ConvSpec(64, 64, (3, 3), (1, 1), (1, 1), (1, 1))
    chain = format_named("tucker2").stages(spec, (8, 8))
    model = LatencyModel(engine, Conditions(batch=1, threads=1))
    (row,) = model.time_blocks(spec, [chain], (16, 16))
    assert 0 < row.chain < row.dense
    assert row.noise < row.dense


def test_tensor_trains_are_timed_as_the_modules_that_they_are() -> None:
    engine = FakeEngine(lambda layer, outputs: 1.0)
    spec = ConvSpec(16, 16)
    chain = format_named("tt-matrix").stages(spec, format_named("tt-matrix").largest_rank(spec))
    (row,) = LatencyModel(engine, Conditions(), timer=known_times).time_blocks(spec, [chain], ())
    assert row == Measured(CALL + 1.0, CALL, 0.0), "the fake engine counts plain layers alone"


def test_random_weights_are_neither_denormal_nor_large() -> None:
    layer = draw_weights(plain_layer(WINDOW))
    for parameter in layer.parameters():
        assert torch.isfinite(parameter).all()
        assert 1e-6 < parameter.abs().median() < 10
