"""Samples for the verbs that come before and after a compression."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from stage import assert_refused, last_json, run
from toy import build_toy, normal

from polyadic.export import load

LIKE = ("--formats", "svd,tucker2", "--search", "uniform", "--budget", "macs=60%")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, with a plan of the denoiser and a plan of two inputs, and the denoiser compressed without training."""
    folder = build_toy(tmp_path_factory.mktemp("toy"))
    code, data = f"{folder}/toy.py", f"npy:{folder}/inputs.npy"
    for model, samples, name in (("build", data, "plan"), ("two", f"npz:{folder}/both.npz", "two")):
        done = run("plan", f"{code}:{model}", "--data", samples, *LIKE, "--out", folder / f"{name}.json")
        assert done.exit_code == 0, done.output
    line = ("apply", f"{code}:build", "--data", data, "--plan", folder / "plan.json", "--out", folder / "result")
    done = run(*line, "--alarm-at", 2, "--json")
    assert done.exit_code == 0, done.output
    return folder


def test_a_plan_for_several_inputs_knows_no_single_size(toy: Path) -> None:
    one, two = (json.loads((toy / f"{name}.json").read_text()) for name in ("plan", "two"))
    assert one["origin"]["input_shape"] == [1, 8, 8]
    assert two["origin"]["input_shape"] is None
    assert {layer["layer"] for layer in two["layers"]} <= {"left", "right"}


def test_layers_of_a_network_of_several_inputs_are_listed(toy: Path) -> None:
    done = run("inspect", f"{toy}/toy.py:two", "--data", f"npz:{toy}/both.npz")
    assert done.exit_code == 0, done.output
    assert "one input of 24, 8" in done.stdout
    document = last_json(run("inspect", f"{toy}/toy.py:two", "--data", f"npz:{toy}/both.npz", "--json"))
    assert document["macs"] == 24 * 24 + 8 * 24
    assert_refused(run("inspect", f"{toy}/toy.py:two"), "give --input-shape C,H,W or --data with samples")


def test_a_plan_is_applied_to_samples_and_trains_nothing(toy: Path) -> None:
    document = json.loads((toy / "result" / "result.json").read_text())
    assert document["score_name"] == "R^2 of the dense outputs"
    assert (document["provenance"]["data_aware"], document["provenance"]["finetuning"]) == (True, [])


def test_networks_are_timed_on_samples(toy: Path) -> None:
    words = ("--engines", "pytorch-nchw", "--rounds", 1, "--seconds", 0, "--threads", 1, "--no-memory", "--batch", 2)
    line = ("bench", toy / "result", "--trust-code", *words, "--data")
    said = last_json(run(*line, f"npy:{toy}/inputs.npy", "--json"))
    assert said["settings"]["inputs"] == f"samples of npy:{toy}/inputs.npy, repeated up to each batch"
    assert said["input_shape"] == [1, 8, 8]
    assert all(row["median_ms"] > 0 for row in said["rows"])
    done = run(*line, f"{toy}/toy.py:batches")
    assert f"Inputs: samples of {toy}/toy.py:batches, repeated up to each batch." in " ".join(done.stdout.split())
    both = ("bench", f"{toy}/toy.py:two", *words, "--data", f"npz:{toy}/both.npz")
    assert_refused(run(*both), "networks of one input are timed; npz:.*both.npz gives .* several")
    assert_refused(run(*line, f"npy:{toy}/inputs.npy", "--input-size", 8), "--input-size: of image files alone")


def test_files_are_compared_on_samples(toy: Path, tmp_path: Path) -> None:
    line = ("export", "--to", "pt2", "--out", tmp_path, "--batch", 5, "--json", "--data")
    said = last_json(run(*line, f"npy:{toy}/inputs.npy", toy / "result", "--trust-code"))
    assert said["compared_on"] == f"samples of npy:{toy}/inputs.npy"
    assert [row["batch"] for row in said["files"][0]["comparisons"]] == [1, 5]
    said = last_json(run(*line, f"npz:{toy}/both.npz", f"{toy}/toy.py:two"))
    record = json.loads((tmp_path / "export.json").read_text())["files"]["model.pt2"]
    assert (record["inputs"], record["compared_on"]) == ({"input_0": ["batch", 24], "input_1": ["batch", 8]}, "data")
    np.save(tmp_path / "one.npy", np.zeros((1, 1, 8, 8), np.float32))
    assert_refused(run(*line, f"npy:{tmp_path}/one.npy", f"{toy}/toy.py:build"), "gives one sample: add some")


def test_a_study_of_kernels_sees_the_size_of_samples(toy: Path, tmp_path: Path) -> None:
    line = ("analyze", "degeneracy", "--layer", "second", "--ranks", "1", "--methods", "als", "--json", "--data")
    said = last_json(run(*line, f"npy:{toy}/inputs.npy", f"{toy}/toy.py:build", "--out", tmp_path / "one"))
    assert said["rows"] == 1
    both = run(*line, f"npz:{toy}/both.npz", f"{toy}/toy.py:two", "--out", tmp_path / "two")
    assert_refused(both, "networks of one input are studied")


def test_a_task_that_trains_is_applied_without_its_training(toy: Path, tmp_path: Path) -> None:
    line = ("apply", f"{toy}/toy.py:build", "--data", f"{toy}/toy.py:task", "--plan", toy / "plan.json")
    said = last_json(run(*line, "--out", tmp_path / "out", "--json"))
    assert (said["score_name"], said["provenance"]["finetuning"]) == ("PSNR", [])


def test_options_of_samples_need_samples(toy: Path, tmp_path: Path) -> None:
    line = ("apply", f"{toy}/toy.py:build", "--plan", toy / "plan.json", "--out", tmp_path / "out")
    assert_refused(run(*line, "--metric", f"{toy}/toy.py:psnr"), "--metric: of samples, and there are none")


def test_a_result_is_judged_by_the_dense_outputs_or_by_a_metric(toy: Path) -> None:
    line = ("evaluate", toy / "result", "--trust-code", "--data", f"npy:{toy}/inputs.npy")
    said = last_json(run(*line, "--json"))
    known = json.loads((toy / "result" / "result.json").read_text())
    assert said["score"] == pytest.approx(known["compressed"]["score"], abs=1e-6)
    assert (said["score_name"], said["samples"]) == ("R^2 of the dense outputs", 2)
    done = run(*line, "--metric", f"{toy}/toy.py:psnr", "--metric-unit", "dB")
    assert re.search(r"psnr [-\d.]+ dB; ", done.stdout), done.output
    assert "on the 2 last samples, which chose nothing" in run(*line).stdout


def test_a_network_by_itself_needs_a_metric(toy: Path) -> None:
    line = ("evaluate", f"{toy}/toy.py:build", "--data", f"npy:{toy}/inputs.npy")
    assert_refused(run(*line), "compared with those of its dense network, and .* is one: give --metric")
    assert run(*line, "--metric", f"{toy}/toy.py:psnr").exit_code == 0
    assert run("evaluate", f"{toy}/toy.py:build", "--data", f"{toy}/toy.py:task").exit_code == 0


def test_a_result_is_trained_further_on_samples(toy: Path, tmp_path: Path) -> None:
    line = ("finetune", toy / "result", "--trust-code", "--data", f"npy:{toy}/inputs.npy", "--finetune-epochs", 3)
    said = last_json(run(*line, "--finetune-rate", 0.003, "--out", tmp_path / "out", "--json"))
    before = json.loads((toy / "result" / "result.json").read_text())
    assert said["compressed"]["score"] > before["compressed"]["score"]
    assert said["provenance"]["taught_by"] == "the dense network"
    assert said["provenance"]["answers_lost"] >= 1 - said["compressed"]["score"] - 1e-6
    assert said["provenance"]["answers_compared_on"] == "last samples"
    assert load(tmp_path / "out", trust_code=True)(normal(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert_refused(run(*line, "--no-teacher", "--out", tmp_path / "b"), "leave out --no-teacher")
    assert_refused(run(*line[:-1], 0, "--out", tmp_path / "c"), "at least one epoch")


def test_the_training_ends_when_its_minutes_are_over(toy: Path, tmp_path: Path) -> None:
    line = ("finetune", toy / "result", "--trust-code", "--data", f"npy:{toy}/inputs.npy", "--finetune-epochs", 10_000)
    said = last_json(run(*line, "--finetune-minutes", 0.005, "--out", tmp_path / "out", "--json"))
    assert 1 <= len(said["provenance"]["finetuning"]) < 10_000


def test_a_search_that_ruins_the_network_says_so_first_and_ends_with_3(toy: Path, tmp_path: Path) -> None:
    line = ("search", f"{toy}/toy.py:build", "--data", f"npy:{toy}/inputs.npy", *LIKE[:-1], "macs=15%")
    done = run(*line, "--alarm-at", 0.05, "--out", tmp_path / "out")
    assert done.exit_code == 3, done.output
    assert done.stdout.startswith("warning: before fine-tuning a network with this plan has lost")
    assert (tmp_path / "out" / "plan.json").exists()
    assert run(*line, "--alarm-at", 5, "--out", tmp_path / "calm").exit_code == 0


def test_a_ruined_network_is_written_and_said_first(toy: Path, tmp_path: Path) -> None:
    line = ("compress", f"{toy}/toy.py:build", "--data", f"{toy}/toy.py:psnr", "--input-shape", "1,8,8", *LIKE)
    done = run(*line, "--alarm-at", 0, "--out", tmp_path / "out")
    assert done.exit_code == 3, done.output
    assert done.stdout.startswith("warning: this network has lost")
    assert "warning: layers were decomposed from their weights alone" in done.stdout
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert document["warnings"][0].startswith("this network has lost")
    assert (document["provenance"]["data_aware"], document["provenance"]["alarm_at"]) == (False, 0)
