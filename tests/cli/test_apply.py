"""A plan by the verbs, one after another: searched or written by hand, applied, trained, judged."""

from __future__ import annotations

import json
from pathlib import Path

from stage import World, assert_refused, last_json, run

from disks import files_in
from polyadic.export import load

PLAN = {
    "version": 1,
    "layers": [
        {"layer": "conv2", "format": "tucker2", "rank": [6, 6]},
        {"layer": "head", "format": "svd", "rank": 2},
    ],
}


def plan_file(folder: Path) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps(PLAN))
    return path


def test_a_plan_applied_to_images_is_what_compress_makes_without_training(world: World, tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    words = ("--weights", world.weights, "--data", world.data, "--plan", plan)
    said = last_json(run("apply", world.model, *words, "--out", tmp_path / "applied", "--json"))
    world.compress(tmp_path / "whole", plan=plan, max_drop=None, finetune_epochs=0)
    for name in ("plan.json", "model.safetensors"):
        assert (tmp_path / "applied" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert said["compressed"]["score"] == said["reloaded_score"]
    assert said["provenance"]["finetuning"] == []
    assert "report.html" in files_in(tmp_path / "applied")
    assert_refused(run("apply", world.model, *words, "--out", tmp_path / "applied"), "already holds a network")


def test_what_was_applied_is_trained_and_judged_by_the_next_verbs(world: World, tmp_path: Path) -> None:
    teach = ("--weights", world.weights, "--data", world.data)
    run("apply", world.model, *teach, "--plan", plan_file(tmp_path), "--out", tmp_path / "applied")
    words = ("--finetune-epochs", 1, "--trust-code", "--out", tmp_path / "tuned")
    tuned = run("finetune", tmp_path / "applied", *teach, *words)
    assert tuned.exit_code == 0, tuned.output
    said = last_json(run("evaluate", tmp_path / "tuned", "--data", world.data, "--trust-code", "--json"))
    assert said["score"] == json.loads((tmp_path / "tuned" / "result.json").read_text())["compressed"]["score"]


def test_without_images_a_plan_is_applied_from_the_weights_alone(world: World, tmp_path: Path) -> None:
    words = ("--weights", world.weights, "--input-shape", "3,8,8", "--plan", plan_file(tmp_path))
    said = last_json(run("apply", world.model, *words, "--out", tmp_path / "applied", "--json"))
    assert files_in(tmp_path / "applied") == {"plan.json", "model.safetensors"}
    assert set(said["relative_errors"]) == {"conv2", "head"}
    assert load(tmp_path / "applied", trust_code=True).head[0].out_features == 2
    plan = json.loads((tmp_path / "applied" / "plan.json").read_text())
    assert (plan["origin"]["model"], plan["origin"]["input_shape"]) == (world.model, [3, 8, 8])
    assert all(layer["stages"] for layer in plan["layers"])
    judged = run("evaluate", tmp_path / "applied", "--data", world.data, "--trust-code")
    assert judged.exit_code == 0, judged.output
