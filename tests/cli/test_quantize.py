from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from stage import World, assert_refused, last_json, run

from disks import files_in
from polyadic.export import Origin, write_plan
from polyadic.formats import format_named
from polyadic.models import load_model
from polyadic.quantization import QUANTIZERS
from polyadic.schema import Choice, Plan
from polyadic.surgery import chain_for, layer_at

QUICK = ("--images", 32, "--judges", 30, "--no-ends", "--batches", "1,2", "--seconds", 0.01, "--trust-code")


@pytest.fixture(scope="module")
def result(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one layer as a chain, as ``compress`` writes it."""
    folder = tmp_path_factory.mktemp("result")
    network = load_model(world.model, weights=world.weights).model.eval()
    layer, kernel, spec = layer_at(network, "conv2")
    factored = format_named("spatial-svd").factorise(kernel.detach(), spec, (12,), 0, None)
    network.set_submodule("conv2", chain_for(layer, factored))
    write_plan(folder / "plan.json", Plan((Choice("conv2", "spatial-svd", (12,)),)), Origin(model=world.model))
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


def test_a_result_and_the_dense_network_in_eight_bits(world: World, result: Path, tmp_path: Path) -> None:
    if QUANTIZERS["onnxruntime"].missing():
        pytest.skip("no ONNX Runtime")
    words = ("quantize", result, "--data", world.data, "--weights", world.weights, "--out", tmp_path, *QUICK)
    torch.manual_seed(0)
    done = run(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    said = last_json(done)
    assert said.pop("out") == str(tmp_path)
    assert said == json.loads((tmp_path / "quantization.json").read_text())
    assert files_in(tmp_path) == {"model.int8.onnx", "quantization.json"}
    rows = {(row["name"], row["precision"]): row for row in said["rows"]}
    assert list(rows) == [(name, kind) for name in ("dense", "compressed") for kind in ("float32", "int8")]
    assert rows["compressed", "int8"]["bytes"] == (tmp_path / "model.int8.onnx").stat().st_size
    assert rows["dense", "float32"]["times_smaller"] == 1
    assert rows["compressed", "int8"]["bytes"] < rows["compressed", "float32"]["bytes"]
    assert rows["compressed", "int8"]["accuracy"] > 0.8
    for name in ("dense", "compressed"):
        chosen, tried = said["recipes"][name]["chosen"], said["recipes"][name]["tried"]
        assert chosen["divergence"] == min(trial["divergence"] for trial in tried)
        assert {trial["method"] for trial in tried} == {"minmax", "percentile", "entropy"}


def test_what_cannot_be_is_refused_and_nothing_is_written(world: World, result: Path) -> None:
    before = files_in(result)
    line = ("quantize", result, "--data", world.data)
    assert_refused(run(*line, "--engine", "tflite"), "onnxruntime, openvino, torchao; got 'tflite'")
    assert_refused(run(*line, "--batches", "1,x"), "--batches is a list of numbers from 1 up")
    assert_refused(run(*line, "--images", 0), "images is a number of images from 1 up; got 0")
    assert_refused(run(*line), "--trust-code")
    assert files_in(result) == before
