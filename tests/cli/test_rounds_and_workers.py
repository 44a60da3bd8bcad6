"""Rounds of factorisation and fine-tuning, and workers of one storage, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import World, assert_refused, last_json, run

from disks import files_in

QUICK: dict[str, Any] = {"formats": "tucker2,svd", "search": "uniform", "max_drop": None, "budget": "macs=40%"}


def test_a_network_of_two_rounds_is_written_loaded_and_reported(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = world.compress(out, "--json", "--alarm-at", 1, **QUICK, rounds=2, finetune_epochs=2)
    assert result.exit_code == 0, result.stderr
    said = last_json(result)
    first, second = said["provenance"]["rounds"]
    assert second["macs"] == said["compressed"]["macs"] <= 0.4 * said["dense"]["macs"] < first["macs"]
    assert files_in(out / "round-1") == {"trials.jsonl", "network.pt"}
    assert Path(said["report"]).exists()
    chosen = json.loads((out / "plan.json").read_text())["layers"]
    assert {layer["layer"] for layer in chosen} <= {"conv1", "conv2", "head"}
    assert_refused(world.compress(out, **QUICK, rounds=2), "already holds a result")
    assert_refused(world.compress(tmp_path / "other", rounds=2), "rounds share the way to a budget")


@pytest.mark.slow
def test_rounds_on_an_engine_say_how_fast_each_has_become(world: World, tmp_path: Path) -> None:
    engine = {"engine": "pytorch", "batch": 2, "threads": 1, "round_to": 1, "latency_dir": tmp_path / "times"}
    result = world.compress(
        tmp_path / "out", "--no-require-speedup", "--json", **QUICK, rounds=2, finetune_epochs=2, **engine
    )
    assert result.exit_code == 0, result.stderr
    said = last_json(result)
    rounds = said["provenance"]["rounds"]
    assert [one["latency"] for one in rounds] == [one["speed"]["measured_ms"] for one in rounds]
    assert rounds[1]["latency"] == said["compressed"]["latency"] > 0
    assert {one["speed"]["dense_ms"] for one in rounds} == {said["dense"]["latency"]}
    lines = [json.loads(line)["what"] for line in (tmp_path / "times" / "times.jsonl").read_text().splitlines()]
    assert any("'block', (ConvSpec(" in line for line in lines), "chains of the first round were timed as chains"


def test_workers_of_one_storage_end_with_the_same_plan_and_one_of_them_carries_it_out(
    world: World, tmp_path: Path
) -> None:
    words = ["--data", world.data, "--weights", world.weights, "--formats", "tucker2,svd", "--search", "uniform"]
    words += ["--budget", "macs=40%", "--storage", tmp_path / "study.db"]
    for name in ("one", "two"):
        result = run("search", world.model, *words, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    first, second = ((tmp_path / name / "plan.json").read_bytes() for name in ("one", "two"))
    assert first == second
    carried = {"formats": "tucker2,svd", "max_drop": None, "finetune_epochs": 0}
    assert world.compress(tmp_path / "out", plan=tmp_path / "one" / "plan.json", **carried).exit_code == 0
    again = json.loads((tmp_path / "out" / "plan.json").read_text())["layers"]
    plan = [{key: one[key] for key in ("layer", "format", "rank")} for one in again]
    assert plan == [{key: one[key] for key in ("layer", "format", "rank")} for one in json.loads(first)["layers"]]
