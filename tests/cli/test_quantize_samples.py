"""``polyadic quantize`` of a network that is no classifier, by samples without labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage import assert_refused, last_json, run
from toy import build_toy

from polyadic.quantization import QUANTIZERS

QUICK = ("--no-ends", "--batches", 1, "--seconds", 0.01, "--trust-code")
PLAN = ("--formats", "svd,tucker2", "--search", "uniform", "--budget", "macs=60%", "--alarm-at", 2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_toy(tmp_path_factory.mktemp("toy"))
    line = ("compress", f"{folder}/toy.py:build", "--data", f"npy:{folder}/inputs.npy", *PLAN, "--finetune-epochs", 0)
    done = run(*line, "--out", folder / "result")
    assert done.exit_code == 0, done.output
    return folder


def test_eight_bits_cost_little_of_the_outputs_of_the_dense_network(toy: Path, tmp_path: Path) -> None:
    if QUANTIZERS["onnxruntime"].missing():
        pytest.skip("no ONNX Runtime")
    line = ("quantize", toy / "result", "--data", f"npy:{toy}/inputs.npy", *QUICK, "--out", tmp_path)
    said = last_json(run(*line, "--json"))
    assert said.pop("out") == str(tmp_path)
    assert said == json.loads((tmp_path / "quantization.json").read_text())
    known = json.loads((toy / "result" / "result.json").read_text())
    assert (said["score_name"], said["compared_with"]) == ("R^2 of the dense outputs", "dense")
    assert (said["samples"], said["data"]) == (known["provenance"]["samples"], f"npy:{toy}/inputs.npy")
    plain, rounded = said["rows"]
    assert plain["score"] == pytest.approx(known["compressed"]["score"], abs=1e-4)
    assert rounded["score"] == pytest.approx(plain["score"], abs=0.05)
    assert rounded["drop"] == pytest.approx(100 * (plain["score"] - rounded["score"]))
    chosen, tried = (said["recipes"]["compressed"][key] for key in ("chosen", "tried"))
    assert chosen["outputs_lost"] == min(trial["outputs_lost"] for trial in tried) < 0.05
    assert "accuracy" not in chosen
    assert (tmp_path / "model.int8.onnx").exists()


def test_the_score_is_a_metric_where_there_is_one(toy: Path, tmp_path: Path) -> None:
    if QUANTIZERS["onnxruntime"].missing():
        pytest.skip("no ONNX Runtime")
    line = ("quantize", toy / "result", "--data", f"{toy}/toy.py:batches", *QUICK, "--out", tmp_path)
    done = run(*line, "--metric", f"{toy}/toy.py:psnr", "--metric-unit", "dB")
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "psnr, dB" in said
    assert "lost, dB" in said
    assert "accuracy" not in said


def test_a_score_alone_gives_no_ranges(toy: Path) -> None:
    line = ("quantize", toy / "result", *QUICK, "--data", f"{toy}/toy.py:psnr")
    assert_refused(run(*line), "ranges are taken from samples, and .*toy.py:psnr gives none: .* --metric")
    assert_refused(run(*line[:-1], f"npy:{toy}/inputs.npy", "--mean", "0"), "--mean: of image files alone")
