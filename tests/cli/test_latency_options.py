"""``--engine`` on the command line, with PyTorch as the engine, which is always there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stage import World, assert_refused, last_json, run

from polyadic.engines.latency_cache import FILE

COMMON = ("--input-shape", "3,8,8", "--formats", "tucker2,svd", "--json")
ENGINE = ("--engine", "pytorch", "--batch", "2", "--threads", "1")


def test_a_plan_within_a_limit_of_latency_is_timed_as_a_whole_and_times_are_kept(world: World, tmp_path: Path) -> None:
    words = (*COMMON, *ENGINE, "--no-require-speedup", "--budget", "macs=60%", "--latency-dir", tmp_path)
    said: dict[str, Any] = last_json(run("plan", world.model, *words))
    assert said["planned"]["macs"] <= 0.6 * said["dense"]["macs"]
    assert said["speed"]["dense_ms"] == said["dense"]["latency"] > 0
    assert said["speed"]["predicted_ms"] == said["planned"]["latency"]
    assert said["speed"]["measured_ms"] > 0
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert all("batch 2, 1 thread, float32" in line["what"] for line in lines)
    again = last_json(run("plan", world.model, *words))
    assert len((tmp_path / FILE).read_text().splitlines()) == len(lines)
    assert again["layers"] == said["layers"]


def test_conditions_without_an_engine_and_engines_that_are_none_are_refused(world: World) -> None:
    plan = ("plan", world.model, *COMMON)
    assert_refused(run(*plan, "--budget", "latency=50%"), "latency is the time on an engine: name one")
    assert_refused(
        run(*plan, "--budget", "macs=50%", "--batch", "8"),
        "--batch belong to an engine: name one .--engine onnxruntime.",
    )
    assert_refused(run(*plan, "--budget", "macs=50%", "--engine", "abacus"), "an engine is one of pytorch")
    assert_refused(
        run(*plan, "--budget", "macs=50%", "--engine", "pytorch", "--precision", "int4"), "precision is one of float32"
    )
