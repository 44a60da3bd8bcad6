"""Folders that version 0.1 wrote are loaded, scored, reported and exported as on the day that they were written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stage import last_json, run

import polyadic
from polyadic.layers import TTLayer
from polyadic.reporting import read_result

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """What ``polyadic demo --seed 0`` of version 0.1 left in its folder, without the page."""
    return Path(shutil.copytree(FIXTURES / "run_0_1", tmp_path / "run"))


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """What ``polyadic search --search frontier --budget macs=50%`` of version 0.1 left in its folder."""
    return Path(shutil.copytree(FIXTURES / "search_0_1", tmp_path / "search"))


def test_a_result_is_loaded_with_the_weights_of_its_file(result: Path) -> None:
    network = polyadic.load(result)
    weights = load_file(result / "model.safetensors")
    state = network.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())
    assert sum(parameter.numel() for parameter in network.parameters()) == 23344


def test_layers_that_are_kept_as_cores_are_loaded(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "run_0_1_cores", tmp_path / "run"))
    network = polyadic.load(folder)
    layers = [name.rpartition(".")[0] for name, module in network.named_modules() if isinstance(module, TTLayer)]
    assert layers == [layer["layer"] for layer in json.loads((folder / "plan.json").read_text())["layers"]]
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    said = run("report", folder)
    assert said.exit_code == 0, said.output
    page = (folder / "report.html").read_text()
    assert "tt-matrix" in page
    assert "Measured speed" in page, "of bench.json"


def test_evaluate_gives_the_score_that_the_result_names(result: Path) -> None:
    said = last_json(run("evaluate", result, "--data", "digits", "--json"))
    written = json.loads((result / "result.json").read_text())
    assert (said["params"], said["macs"]) == (written["compressed"]["params"], written["compressed"]["macs"])
    assert said["score"] == pytest.approx(written["compressed"]["score"], abs=2 / said["images"])


def test_the_figures_of_a_result_are_read_as_they_were_written(result: Path) -> None:
    written = json.loads((result / "result.json").read_text())
    read = read_result(result)
    assert read.damaged == 0
    assert len(read.trials) == len((result / "trials.jsonl").read_text().splitlines()) - 1
    assert read.result.drop == written["drop"]
    assert read.result.mac_reduction == written["mac_reduction"]
    assert [layer.name for layer in read.result.layers] == [layer["name"] for layer in written["layers"]]
    assert [layer.relative_error for layer in read.result.layers] == [
        layer["relative_error"] for layer in written["layers"]
    ]


def test_a_result_is_reported(result: Path) -> None:
    assert run("report", result).exit_code == 0
    page = (result / "report.html").read_text()
    assert "polyadic:digits-cnn" in page
    assert "98.89" in page
    assert "stage3.0" in page


@pytest.mark.parametrize("target", ["pt2", "onnx"])
def test_a_result_is_exported(result: Path, target: str, tmp_path: Path) -> None:
    said = run("export", result, "--to", target, "--out", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert (tmp_path / "out" / f"model.{target}").stat().st_size > 80_000


def test_a_search_is_reported(search: Path) -> None:
    said = run("report", search)
    assert said.exit_code == 0, said.output
    page = (search / "report.html").read_text()
    assert "frontier" in page
    assert "1,188,400" in page, "the MACs of its plan"


def test_the_plan_of_a_search_is_carried_out(search: Path, tmp_path: Path) -> None:
    said = run(
        *("compress", "polyadic:digits-cnn", "--untrained", "--data", "digits", "--plan", search / "plan.json"),
        *("--finetune-epochs", 0, "--out", tmp_path / "out", "--json"),
    )
    assert said.exit_code in (0, 3), said.output
    written = json.loads((search / "search.json").read_text())
    assert last_json(said)["compressed"]["macs"] == written["plan"]["macs"]
