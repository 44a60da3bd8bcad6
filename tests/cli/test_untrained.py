"""A library's network comes with random weights: commands for trained networks say so before they do anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import World, assert_refused, last_json, run

from polyadic.reporting.folder import read_search
from polyadic.schema import SearchResult

MODEL = "polyadic:digits-cnn"


@pytest.mark.parametrize(
    "words",
    [
        ("compress", "--budget", "macs=50%"),
        ("search", "--budget", "macs=50%"),
        ("evaluate",),
        ("analyze", "layers"),
        ("analyze", "degeneracy"),
    ],
)
def test_random_weights_are_refused_unless_they_are_meant(words: tuple[str, ...], tmp_path: Path) -> None:
    command = words[:2] if words[0] == "analyze" else words[:1]
    out = () if words == ("evaluate",) else ("--out", tmp_path / "out")
    refused = run(*command, MODEL, *words[len(command) :], "--data", "digits", *out)
    assert_refused(
        refused, f"{MODEL} is built with random weights, and none were given: .* --weights, or .*--untrained"
    )
    assert not (tmp_path / "out").exists()


def test_random_weights_that_are_meant_are_taken_and_no_better_than_chance() -> None:
    said = last_json(run("evaluate", MODEL, "--data", "digits", "--untrained", "--json"))
    assert said["score"] < 0.25
    assert "no better than chance" in said["warnings"][0]


def test_a_trained_network_is_scored_without_a_warning(world: World) -> None:
    said = last_json(run("evaluate", world.model, "--weights", world.weights, "--data", world.data, "--json"))
    assert said["warnings"] == []


def test_what_is_not_a_library_network_has_weights_of_its_own(world: World) -> None:
    refused = run("evaluate", world.model, "--untrained", "--data", world.data)
    assert_refused(refused, "--untrained takes .* with random weights, and it has those of its factory")
    refused = run("evaluate", MODEL, "--untrained", "--weights", world.weights, "--data", "digits")
    assert_refused(refused, "and it has those of .*: leave out one of them")


def test_weights_in_half_precision_are_refused_in_one_sentence(world: World, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(3, 4).bfloat16()\n")
    model = f"{tmp_path}/half.py:build"
    words = "commands give networks float32 inputs; the weights of .* are bfloat16: let its factory return model.float"
    assert_refused(run("inspect", model, "--input-shape", "3,8,8"), words)
    assert_refused(run("evaluate", model, "--data", world.data), words)


def test_a_plan_for_a_network_that_guesses_keeps_the_warning(tmp_path: Path) -> None:
    words = ("--budget", "macs=50%", "--search", "uniform", "--data", "digits", "--untrained", "--json")
    said = last_json(run("search", MODEL, *words, "--out", tmp_path))
    (warning,) = said["warnings"]
    assert "no better than chance" in warning
    found = read_search(tmp_path)
    assert found.result.warnings == (warning,)
    assert SearchResult.from_json(found.result.to_json()) == found.result
    assert "no better than chance" in (tmp_path / "report.html").read_text()
