from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from stage import World, assert_refused, last_json, run

from polyadic import load
from polyadic.data import load_data

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="session")
def result(finished: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished result, to put files into."""
    return Path(shutil.copytree(finished[0], tmp_path_factory.mktemp("exported") / "out"))


def metadata(path: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found


def test_a_result_becomes_files_beside_it_that_answer_alike(result: Path, world: World) -> None:
    done = run(
        "export", result, "--to", "onnx", "--to", "pt2", "--data", world.data, "--batch", 4, "--trust-code", "--json"
    )
    assert done.exit_code == 0, done.output
    said = last_json(done)
    assert [file["path"] for file in said["files"]] == [str(result / "model.onnx"), str(result / "model.pt2")]
    assert said["compared_on"] == "held-out images"
    images = load_data(world.data)
    x = images.normalise(images.test.images(torch.arange(5)))
    expected = load(result, trust_code=True)(x).detach()
    session = onnxruntime.InferenceSession(str(result / "model.onnx"), providers=["CPUExecutionProvider"])
    onnx_answer = torch.from_numpy(session.run(["output"], {"input": x.numpy()})[0])
    for answer in (onnx_answer, torch.export.load(result / "model.pt2").module()(x)):
        torch.testing.assert_close(answer, expected, rtol=0.0, atol=1e-4 * float(expected.abs().max()))
    record: dict[str, Any] = json.loads((result / "export.json").read_text())["files"]
    assert {row["batch"] for row in record["model.pt2"]["comparisons"]} == {1, 4}
    notes = metadata(result / "model.onnx")
    assert notes == record["model.onnx"]["notes"]
    assert notes["polyadic.origin"] == world.model
    assert json.loads(notes["polyadic.mean"]) == list(images.mean)
    assert len(notes["polyadic.plan_sha256"]) == 64


def test_a_model_by_name_goes_where_it_is_told(tmp_path: Path) -> None:
    done = run("export", "polyadic:digits-cnn", "--to", "pt2", "--out", tmp_path / "digits.pt2")
    assert done.exit_code == 0, done.output
    assert "random normal numbers (give --data for others)" in done.output
    assert torch.export.load(tmp_path / "digits.pt2").module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_refusals(result: Path, world: World, tmp_path: Path) -> None:
    model = "polyadic:digits-cnn"
    assert_refused(run("export", model, "--to", "pt2"), "say with --out where")
    assert_refused(
        run("export", model, "--to", "tflite", "--out", tmp_path), "one of onnx, openvino, pt2; got 'tflite'"
    )
    assert_refused(
        run("export", model, "--to", "pt2", "--to", "onnx", "--out", tmp_path / "a.pt2"), "one file, and 2 formats"
    )
    assert_refused(run("export", model, "--to", "onnx", "--out", tmp_path / "a.pt2"), r"onnx ends in \.onnx")
    assert_refused(run("export", model, "--to", "pt2", "--out", tmp_path, "--batch", 1), "give 2 or more")
    assert_refused(run("export", result, "--to", "pt2"), "--trust-code")
    assert_refused(run("export", result, "--to", "pt2", "--weights", world.weights), "holds its own weights")
    assert_refused(
        run("export", world.model, "--to", "pt2", "--out", tmp_path, "--data", world.data, "--input-shape", "3,9,9"),
        "leave out one of --data and --input-shape",
    )
    assert not list(tmp_path.iterdir())
