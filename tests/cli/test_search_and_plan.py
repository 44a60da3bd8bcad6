"""Plans on the command line: said beforehand, searched for, edited by hand, carried out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import World, assert_refused, last_json, run

from disks import files_in
from polyadic.cli.screen import command_line
from polyadic.data import load_data
from polyadic.export import load
from polyadic.models import load_model
from polyadic.schema import Plan
from polyadic.surgery import network_cost, rebuild

QUICK: dict[str, Any] = {"formats": "tucker2,svd"}


def searched(world: World, out: Path, *more: object, **options: Any) -> Any:
    known: dict[str, Any] = {"weights": world.weights, "data": world.data, "out": out, **QUICK, **options}
    words = ["search", world.model]
    for key, value in known.items():
        words += [] if value is None else [f"--{key.replace('_', '-')}", str(value)]
    return run(*words, *more)


def within(world: World, out: Path, *more: object, **options: Any) -> Any:
    """Compress without a drop and without fine-tuning."""
    return world.compress(out, *more, **{"max_drop": None, "finetune_epochs": 0, **QUICK, **options})


def layers(path: Path) -> Any:
    keys = ("layer", "format", "rank")
    return [{key: layer[key] for key in keys} for layer in json.loads(path.read_text())["layers"]]


@pytest.mark.parametrize("name", ["macs", "params", "bytes"])
def test_a_budget_is_kept_by_the_network_in_the_folder(world: World, tmp_path: Path, name: str) -> None:
    result = within(world, tmp_path, "--json", "--alarm-at", 1, budget=f"{name}=45%", search="uniform")
    assert result.exit_code == 0
    said = last_json(result)
    assert said["compressed"][name] <= 0.45 * said["dense"][name]
    cost = network_cost(load(tmp_path, trust_code=True), load_data(world.data).example(1))
    assert getattr(cost, name) == said["compressed"][name]
    assert (said["max_drop"], said["provenance"]["search"]) == (None, "Uniform()")


def test_a_plan_is_said_beforehand_edited_and_carried_out(world: World, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    words = ("--weights", world.weights, "--data", world.data, "--budget", "macs=2x", "--formats", "tucker2,svd")
    said = last_json(run("plan", world.model, *words, "--out", path, "--json"))
    document = json.loads(path.read_text())
    assert document["origin"]["model"] == world.model
    model, example = load_model(world.model).model, load_data(world.data).example(1)
    assert said["dense"]["macs"] == network_cost(model, example).macs
    planned = network_cost(rebuild(model, Plan.from_json(document["layers"])), example)
    assert said["planned"] == {"params": planned.params, "macs": planned.macs, "bytes": planned.bytes, "latency": None}
    assert 2 * planned.macs <= said["dense"]["macs"]

    document["layers"] = [{"layer": "conv2", "format": "tucker2", "rank": [5, 4]}]
    path.write_text(json.dumps(document))
    assert within(world, tmp_path / "out", plan=path, formats=None).exit_code == 0
    assert layers(tmp_path / "out" / "plan.json") == document["layers"]


def test_the_table_of_a_plan_says_what_becomes_of_each_layer_and_why(world: World) -> None:
    words = ("--input-shape", "3,8,8", "--budget", "macs=60%", "--formats", "tucker2", "--exclude", "conv1")
    result = run("plan", world.model, *words)
    assert result.exit_code == 0
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("│")}
    assert "dense: excluded" in lines["conv1"]
    assert "tucker2, rank" in lines["conv2"]
    assert "dense: " in lines["head"]
    assert "matrix" in lines["head"] or "tucker2" in lines["head"]
    assert "42.4 %" in lines["conv1"]  # 27648 of 65280
    assert "Nothing was tried" in " ".join(result.stdout.split())


def test_the_plan_of_a_search_gives_the_network_that_compress_would_find(world: World, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"budget": "macs=50%", "search": "greedy"}
    result = searched(world, tmp_path / "found", "--json", **asked)
    assert result.exit_code == 0
    said = last_json(result)
    assert files_in(tmp_path / "found") == {"plan.json", "trials.jsonl", "search.json", "report.html"}
    assert said["plan"]["layers"] == layers(tmp_path / "found" / "plan.json")
    assert said["plan"]["macs"] <= 0.5 * said["dense"]["macs"]
    assert said["front"]

    log = (tmp_path / "found" / "trials.jsonl").read_bytes()
    assert within(world, tmp_path / "whole", **asked).exit_code == 0
    assert within(world, tmp_path / "by hand", plan=tmp_path / "found" / "plan.json").exit_code == 0
    assert within(world, tmp_path / "found", "--resume", **asked).exit_code == 0
    assert (tmp_path / "found" / "trials.jsonl").read_bytes() == log
    weights = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "by hand", "found")}
    assert len(weights) == 1


def test_a_search_for_people_shows_the_front_and_the_way_on(world: World, tmp_path: Path) -> None:
    result = searched(world, tmp_path, budget="params=50%", search="uniform", max_drop=None)
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert "uniform: 1 trial, the search had nothing left to try" in said
    assert "the plan" in said
    assert "polyadic compress --plan" in said
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"the whole story: {tmp_path / 'report.html'}" in result.stdout.replace("\n", "")
    assert "The plan, layer by layer" in page
    (tmp_path / "report.html").unlink()
    assert run("report", tmp_path, "--figures", tmp_path / "figures").exit_code == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert "strip.svg" in files_in(tmp_path / "figures")
    document = json.loads((tmp_path / "search.json").read_text())
    planned = load_model(world.model).model, load_data(world.data).example(1)
    assert document["dense"]["macs"] == network_cost(*planned).macs == sum(x["macs_before"] for x in document["layers"])
    assert document["plan"]["macs"] == sum(layer["macs_after"] for layer in document["layers"])


def test_passwords_are_not_kept_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["polyadic", "search", "--storage", "postgresql://me:se%cret@host/db", "--out", "a b"]
    monkeypatch.setattr("sys.argv", words)
    assert command_line() == "polyadic search --storage 'postgresql://me:***@host/db' --out 'a b'"


def test_trials_and_seconds_limit_a_search(world: World, tmp_path: Path) -> None:
    by_trials = last_json(searched(world, tmp_path / "a", "--json", budget="macs=50%", trials=2))
    assert (by_trials["trials"], by_trials["stop"]) == (2, "the limit of 2 trials was reached")
    by_time = last_json(searched(world, tmp_path / "b", "--json", budget="macs=50%", timeout=0.000001))
    assert by_time["trials"] == 0
    more = last_json(searched(world, tmp_path / "a", "--json", "--resume", budget="macs=50%", trials=5))
    assert more["trials"] == 5


def test_ranks_are_rounded(world: World, tmp_path: Path) -> None:
    searched(world, tmp_path, budget="macs=50%", search="uniform", round_to=4)
    ranks = {layer["layer"]: layer["rank"] for layer in layers(tmp_path / "plan.json")}
    assert all(part % 4 == 0 for part in ranks["conv2"])


def test_a_drop_may_be_a_share_of_the_dense_score(world: World, tmp_path: Path) -> None:
    result = within(world, tmp_path, "--json", plan=None, budget="macs=70%", search="uniform", max_drop="40%")
    said = last_json(result)
    assert said["max_drop"] == pytest.approx(40 * said["held_out"]["dense"])
    assert result.exit_code == (0 if said["drop"] <= said["max_drop"] else 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "a search takes a drop .* or a budget .*; got neither"),
        ({"budget": "macs=0.1%"}, "still costs macs .*: allow more"),
        ({"budget": "macs=200%"}, "the dense network keeps the budget"),
        ({"budget": "latency=3ms"}, "latency is the time on an engine: name one"),
        ({"budget": "macs"}, "a limit is written"),
        ({"budget": "macs=50%", "search": "luck"}, "a search is one of uniform, .*; got 'luck'"),
        ({"budget": "macs=50%", "search": "bisection"}, "bisection finds ranks for a drop"),
        ({"budget": "macs=50%", "trials": 0}, "trials is a whole number from 1 up"),
        ({"budget": "macs=50%", "timeout": -1}, "timeout is a number of seconds above 0"),
        ({"budget": "macs=50%", "round_to": 0}, "round_to is a whole number from 1 up"),
        ({"max_drop": "5 points"}, "max_drop is a number of points .* got 5 points"),
        ({"plan": "absent.json"}, "absent.json could not be read"),
        ({"plan": "PLAN", "search": "uniform", "trials": 3}, "leave out --search, --trials"),
        ({"plan": "PLAN"}, "a plan names layers of the model; it has no layer 'conv9'"),
        ({"plan": "LIST"}, "holds a JSON object; got a list"),
    ],
)
def test_what_compress_cannot_be_asked(world: World, tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    (tmp_path / "plan.json").write_text('{"version": 1, "layers": [{"layer": "conv9", "format": "svd", "rank": 1}]}')
    (tmp_path / "list.json").write_text("[]")
    files = {"PLAN": tmp_path / "plan.json", "LIST": tmp_path / "list.json"}
    given = {key: files.get(str(value), value) for key, value in options.items()}
    assert_refused(within(world, tmp_path / "out", **given), expected)
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "an estimate takes a budget"),
        (["--budget", "macs=50%", "--search", "frontier"], "frontier needs trials"),
        (["--budget", "macs=50%", "--search", "pars"], "pars needs trials"),
        (["--budget", "macs=1%", "--formats", "svd"], "still costs macs"),
        (["--budget", "macs=50%", "--formats", "cp"], "a format is one of"),
    ],
)
def test_what_cannot_be_planned(world: World, words: list[str], expected: str) -> None:
    assert_refused(run("plan", world.model, "--input-shape", "3,8,8", *words), expected)
    assert_refused(run("plan", world.model, "--budget", "macs=50%"), "give --input-shape C,H,W or --data")


def test_a_plan_or_a_result_is_not_overwritten_by_a_search(world: World, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("precious")
    asked: dict[str, Any] = {"budget": "macs=50%", "search": "uniform"}
    assert_refused(searched(world, tmp_path, **asked), "already holds a plan: choose another folder, or --resume")
    (tmp_path / "result.json").write_text("{}")
    assert_refused(searched(world, tmp_path, "--resume", **asked), "already holds the result of a compression")
    assert (tmp_path / "plan.json").read_text() == "precious"
