from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from stage import LONG, World, last_json, run

from disks import files_in
from polyadic.data import load_data
from polyadic.export import load
from polyadic.models import load_model
from polyadic.training import ImageTask

LAYER_KEYS = {
    "name",
    "status",
    "reason",
    "format",
    "rank",
    "relative_error",
    "sensitivity",
    "intensity_ratio",
    "macs_before",
    "macs_after",
}


def result_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return document


def test_json_is_one_object_on_the_last_line_and_the_bars_stay_on_stderr(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    said = last_json(result)
    assert result.exit_code == (0 if said["drop"] <= said["max_drop"] else 3)
    assert said.pop("out") == str(folder)
    assert said.pop("report") == str(folder / "report.html")
    assert said.pop("reloaded_score") == said["compressed"]["score"]
    assert said == result_of(folder)
    assert "search" in result.stderr


def test_the_folder_holds_what_the_manual_lists_and_nothing_else(finished: tuple[Path, Result]) -> None:
    written = {"plan.json", "model.safetensors", "result.json", "trials.jsonl", "README.md", "report.html"}
    assert files_in(finished[0]) == written


def test_the_result_holds_costs_scores_layers_and_where_it_comes_from(
    world: World, finished: tuple[Path, Result]
) -> None:
    document = result_of(finished[0])
    for side in ("dense", "compressed"):
        assert {"params", "macs", "bytes", "score"} <= set(document[side])
    assert "score_before_finetuning" in document["compressed"]
    assert document["compressed"]["macs"] < document["dense"]["macs"]
    assert (document["score_name"], document["max_drop"]) == ("top-1 accuracy", 5)
    assert all(seconds >= 0 for seconds in document["seconds"].values())
    provenance = document["provenance"]
    assert {"polyadic", "torch", "python", "seed", "formats", "eps", "images", "command", "model"} <= set(provenance)
    assert provenance["model"] == world.model
    assert provenance["images"] == {"train": 240, "held_out": 60, "test": 120}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in world.folder.glob("patches_*.npz")}
    assert provenance["data_digests"] == digests
    assert len(provenance["finetuning"]) >= 1


def test_the_layers_of_the_result_are_those_of_the_plan_and_their_macs_add_up(finished: tuple[Path, Result]) -> None:
    document, plan = result_of(finished[0]), json.loads((finished[0] / "plan.json").read_text())
    layers = document["layers"]
    assert all(set(layer) >= LAYER_KEYS for layer in layers)
    chosen = [(layer["name"], layer["format"], layer["rank"]) for layer in layers if layer["status"] == "factorised"]
    assert chosen == [(choice["layer"], choice["format"], choice["rank"]) for choice in plan["layers"]]
    assert chosen
    for side, key in (("dense", "macs_before"), ("compressed", "macs_after")):
        assert sum(layer[key] for layer in layers) == document[side]["macs"]
    for layer in layers:
        assert layer["reason"]
        if layer["format"] == "cp-als":
            assert layer["sensitivity"] > 0
            assert 0 < layer["relative_error"] < 1.5


def test_the_card_holds_the_figures_of_the_result(finished: tuple[Path, Result]) -> None:
    document, card = result_of(finished[0]), (finished[0] / "README.md").read_text()
    for side in ("dense", "compressed"):
        assert f"{document[side]['macs']:,}" in card
        assert f"{100 * document[side]['score']:.2f}" in card
    assert all(warning in card for warning in document["warnings"])
    assert all(layer["name"] in card for layer in document["layers"])


def test_evaluate_gives_the_scores_of_the_result_to_the_last_bit(world: World, finished: tuple[Path, Result]) -> None:
    document = result_of(finished[0])
    compressed = last_json(run("evaluate", finished[0], "--data", world.data, "--trust-code", "--json"))
    dense = last_json(run("evaluate", world.model, "--weights", world.weights, "--data", world.data, "--json"))
    for said, side in ((compressed, "compressed"), (dense, "dense")):
        assert {key: said[key] for key in ("score", "params", "macs", "bytes")} == {
            key: document[side][key] for key in ("score", "params", "macs", "bytes")
        }
        assert (said["images"], said["score_name"]) == (120, "top-1 accuracy")


def test_a_network_without_weights_scores_as_it_was_built(world: World) -> None:
    said = last_json(run("evaluate", world.model, "--data", world.data, "--json"))
    model = load_model(world.model).model
    assert said["score"] == ImageTask(load_data(world.data)).final_scores((model,)).values[0]


def test_code_that_a_folder_names_is_not_run_unasked(world: World, finished: tuple[Path, Result]) -> None:
    refused = run("evaluate", finished[0], "--data", world.data)
    assert refused.exit_code == 1
    assert "not run unasked" in " ".join(refused.stderr.split())


def test_evaluate_uses_the_normalisation_of_the_folder(world: World, tmp_path: Path) -> None:
    constants = ("--mean", "0.3,0.3,0.3", "--std", "0.2,0.2,0.2")
    world.compress(tmp_path / "out", *constants, max_drop=60, finetune_epochs=0)
    said = last_json(run("evaluate", tmp_path / "out", "--data", world.data, "--trust-code", "--json"))
    assert said["score"] == result_of(tmp_path / "out")["compressed"]["score"]


def test_for_people_there_are_tables_and_the_way_to_the_files(
    world: World, finished: tuple[Path, Result], tmp_path: Path
) -> None:
    result = run("evaluate", finished[0], "--data", world.data, "--trust-code")
    assert result.exit_code == 0
    assert "top-1 accuracy" in result.stdout
    shutil.copytree(finished[0], tmp_path / "copy")
    again = world.compress(tmp_path / "copy", "--resume", **LONG)
    assert again.exit_code in (0, 3)
    assert "read back and scored again" in again.stdout
    assert "conv1" in again.stdout


def test_what_is_said_of_the_training_reaches_it(world: World, tmp_path: Path) -> None:
    chosen = {"finetune_epochs": 1, "finetune_rate": 0.002}
    world.compress(tmp_path / "out", "--freeze-statistics", "--mix-images", max_drop=60, **chosen)
    tuning = str(result_of(tmp_path / "out")["provenance"]["network_tuning"])
    assert "learning_rate=0.002" in tuning
    assert "freeze_statistics=True" in tuning
    assert "mixing=True" in tuning


def test_the_same_seed_gives_the_same_plan_and_weights(
    world: World, finished: tuple[Path, Result], tmp_path: Path
) -> None:
    world.compress(tmp_path / "again", cache_dir=tmp_path / "fresh", **LONG)
    for name in ("plan.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_excluded_layers_stay_dense_and_say_so(world: World, tmp_path: Path) -> None:
    result = world.compress(tmp_path, "--exclude", "conv1", "--exclude", "he*", "--json", max_drop=60)
    layers = {layer["name"]: layer for layer in last_json(result)["layers"]}
    assert [layers[name]["status"] for name in ("conv1", "conv2", "head")] == ["dense", "factorised", "dense"]
    assert "excluded" in layers["head"]["reason"]
    assert load(tmp_path, trust_code=True).conv1.weight.shape == (16, 3, 3, 3)


def test_status_3_says_that_the_test_images_lost_more_than_was_allowed(tmp_path: Path) -> None:
    """A rank-1 layer that serves classes 0 and 2 cannot serve class 1, which only the test images show."""
    (tmp_path / "line.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))\n"
        "    model[1].weight.data = torch.eye(3)\n    return model\n"
    )
    eye = (255 * np.eye(3)).astype(np.uint8).reshape(3, 1, 3)
    for role, labels in (("train", [0, 2] * 40), ("test", [1] * 10)):
        np.savez(tmp_path / f"line_{role}.npz", x=eye[labels], y=np.array(labels))
    words = ("--data", f"npz:{tmp_path}/line", "--max-drop", 10, "--formats", "svd", "--finetune-epochs", 0, "--json")
    result = run("compress", f"{tmp_path}/line.py:build", *words, "--out", tmp_path / "out")
    said = last_json(result)
    assert (result.exit_code, said["drop"]) == (3, 100.0)
    assert "lost all of the dense network's answers on the test images" in said["warnings"][0]
    assert "more than the 10 allowed" in said["warnings"][1]
    assert result_of(tmp_path / "out")["warnings"] == said["warnings"]
    assert f"**Warning:** {said['warnings'][0]}" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("formats", ["tucker2, svd", "tkd-cpd-epc", "cp-epc,cp-als-epc"])
def test_every_format_goes_the_whole_way(world: World, tmp_path: Path, formats: str) -> None:
    result = world.compress(tmp_path, "--json", formats=formats, max_drop=60, finetune_epochs=0)
    assert result.exit_code in (0, 3)
    names = {part.strip() for part in formats.split(",")}
    assert {layer["format"] for layer in last_json(result)["layers"]} - {None} <= names
