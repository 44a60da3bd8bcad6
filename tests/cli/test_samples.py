from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from stage import World, assert_refused, last_json, run
from toy import build_toy, normal

QUICK = ("--formats", "svd,tucker2", "--search", "uniform", "--budget", "macs=60%", "--alarm-at", "2")
SHAPE = ("--input-shape", "1,8,8")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_toy(tmp_path_factory.mktemp("toy"))
    (folder / "photos").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    return folder


def compress(toy: Path, out: Path, data: str, *words: object, model: str = "build") -> Result:
    """``polyadic compress`` of a network of the toy within 60 % of its MACs; ``data`` names what lies in its folder."""
    line = ("compress", f"{toy}/toy.py:{model}", "--data", data, *QUICK, "--finetune-epochs", 1, "--json", "--out", out)
    return run(*line, *words)


def result_of(done: Result, out: Path) -> dict[str, Any]:
    assert done.exit_code == 0, (done.output, done.exception)
    document: dict[str, Any] = json.loads((out / "result.json").read_text())
    assert document["compressed"]["macs"] <= 0.6 * document["dense"]["macs"]
    assert document["provenance"]["data_aware"] is True
    assert last_json(done)["reloaded_score"] == pytest.approx(document["compressed"]["score"], abs=1e-6)
    return document


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_one_array_is_the_input(toy: Path, tmp_path: Path, kind: str) -> None:
    found = result_of(compress(toy, tmp_path / "out", f"{kind}:{toy}/inputs.{kind}"), tmp_path / "out")
    assert found["score_name"] == "R^2 of the dense outputs"
    assert found["provenance"]["samples"] == {"train": 17, "held_out": 5, "last": 2}
    assert found["provenance"]["data"] == f"{kind}:{toy}/inputs.{kind}"
    assert len(found["provenance"]["finetuning"]) == 1
    origin = json.loads((tmp_path / "out" / "plan.json").read_text())["origin"]
    assert (origin["input_shape"], origin["mean"]) == ([1, 8, 8], None)


def test_arrays_go_in_by_the_names_that_forward_asks_for(toy: Path, tmp_path: Path) -> None:
    done = compress(toy, tmp_path / "out", f"npz:{toy}/both.npz", model="two")
    result_of(done, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["origin"]["input_shape"] is None


def test_images_of_a_folder_are_cut_and_normalised_as_is_said(toy: Path, tmp_path: Path) -> None:
    words = (*SHAPE, "--mean", "0", "--std", "1", "--no-resize")
    result_of(compress(toy, tmp_path / "out", f"samples:{toy}/photos", *words), tmp_path / "out")
    origin = json.loads((tmp_path / "out" / "plan.json").read_text())["origin"]
    assert (origin["input_shape"], origin["mean"], origin["std"]) == ([1, 8, 8], [0.0], [1.0])


def test_a_generator_function_of_a_file_with_a_metric_in_its_unit(toy: Path, tmp_path: Path) -> None:
    code, out = f"{toy}/toy.py", tmp_path / "out"
    words = ("--metric", f"{code}:psnr", "--metric-unit", "dB", "--compare", "squares", "--validation", f"{code}:pairs")
    found = result_of(compress(toy, out, f"{code}:batches", *words), out)
    assert (found["score_name"], found["score_unit"], found["score_is_fraction"]) == ("psnr", "dB", False)
    assert found["drop_interval"][0] <= found["drop"] <= found["drop_interval"][1]
    assert "| psnr, dB |" in (out / "README.md").read_text()
    for name in ("README.md", "report.html"):
        said = (out / name).read_text()
        assert "dB" in said
        assert re.findall("accuracy|test images|held-out images|drop, points|points lost|nats", said) == []


def test_labels_with_a_loss_and_a_pass_of_ones_own(toy: Path, tmp_path: Path) -> None:
    code, out = f"{toy}/toy.py", tmp_path / "out"
    found = result_of(compress(toy, out, f"{code}:pairs", "--loss", f"{code}:loss", "--forward", f"{code}:first"), out)
    assert found["provenance"]["labelled_loss"] == "loss"


def test_a_task_of_ones_own_says_everything_by_itself(toy: Path, tmp_path: Path) -> None:
    words = ("compress", f"{toy}/toy.py:build", "--data", f"{toy}/toy.py:task", *QUICK, "--out", tmp_path / "out")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "PSNR, dB" in done.stdout
    assert_refused(run(*words, "--resume", "--finetune-epochs", 3), "says by itself how .* leave out --finetune-epochs")


def test_a_score_alone_needs_the_size_of_an_input(toy: Path, tmp_path: Path) -> None:
    words = ("search", f"{toy}/toy.py:build", "--data", f"{toy}/toy.py:psnr", *QUICK, "--out", tmp_path / "out")
    assert_refused(run(*words), "needs the size of an input: give --input-shape")
    done = run(*words, *SHAPE, "--metric-unit", "dB", "--json")
    assert last_json(done)["score_unit"] == "dB"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("samples:{toy}/nowhere", "needs a folder of images; there is none"),
        ("npy:{toy}/nowhere.npy", "needs a file; there is none"),
        ("npy:{toy}/inputs.npz", "holds several arrays: name it npz:"),
        ("{toy}/toy.py:absent", "must define the data 'absent'"),
        ("{toy}/nowhere.py:task", "needs its Python file; there is none"),
        ("{toy}/toy.py:number", r"is, or gives, batches \(a DataLoader, .* gave int"),
        ("{toy}/toy.py:dead", "is, or gives, batches .* gave dict"),
        ("{toy}/toy.py:fails", "raised KeyError: 'nothing'"),
        ("{toy}/toy.py:wants", "takes 2"),
        ("nothing", "data are written samples:DIR"),
        ("npz:{toy}/both.npz", "Denoiser.forward takes|by name"),
    ],
)
def test_what_is_no_data_is_refused_in_a_sentence(toy: Path, tmp_path: Path, data: str, message: str) -> None:
    assert_refused(compress(toy, tmp_path / "out", data.format(toy=toy)), message)
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--held-out", "3"), "--held-out counts images with labels; .* give --validation"),
        (("--mean", "0"), "--mean: of image files alone"),
        (("--metric-unit", "dB"), "name one with --metric"),
        (("--metric", "{toy}/toy.py:number"), "a metric is a function .* is a int"),
        (("--loss", "{toy}/toy.py:dead"), "--loss names a function of two arguments"),
        (("--compare", "cosine"), "--compare is squares or divergence"),
        (("--mix-images",), "--mix-images is of images with labels"),
        (("--finetune-epochs", "-1"), "--finetune-epochs is 0 or more"),
        (("--finetune-rate", "0"), "learning_rate is finite and above 0"),
        (("--finetune-minutes", "0"), "minutes is finite and above 0"),
        (("--validation", "npy:{toy}/nowhere.npy"), "there is none"),
    ],
)
def test_what_does_not_go_with_samples_is_refused(
    toy: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    said = [word.format(toy=toy) for word in words]
    assert_refused(compress(toy, tmp_path / "out", f"npy:{toy}/inputs.npy", *said), message)


def test_what_goes_with_samples_is_refused_beside_images_with_labels(world: World, tmp_path: Path) -> None:
    for words in (("--metric", "net.py:build"), ("--compare", "squares"), ("--no-resize",)):
        assert_refused(world.compress(tmp_path / "out", *words), f"{words[0]}: of samples, and .* images with labels")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b", "c"]), "samples are numbers"),
        (np.full((4, 1, 8, 8), np.nan, np.float32), "samples are finite"),
        (np.zeros((0, 1, 8, 8), np.float32), r"samples are an array \(N, ...\)"),
        (np.zeros(5, np.float32), r"samples are an array \(N, ...\)"),
        (np.zeros((4, 8, 8, 1), np.uint8), "not pixels in bytes"),
        (np.zeros((4, 3, 8, 8), np.float32), "Denoiser does not take it"),
        (np.zeros((2, 1, 8, 8), np.float32), "there are 3 or more; got 2"),
        (np.array([{"x": 1}]), "holds plain arrays"),
    ],
)
def test_arrays_that_are_no_samples_are_refused(toy: Path, tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    assert_refused(compress(toy, tmp_path / "out", f"npy:{tmp_path}/x.npy"), message)


def test_an_empty_folder_and_images_that_are_too_small_are_refused(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(compress(toy, tmp_path / "out", f"samples:{tmp_path}/empty"), "holds no images")
    words = (f"samples:{toy}/photos", "--input-shape", "1,64,64", "--no-resize")
    assert_refused(compress(toy, tmp_path / "out", *words), "give a smaller --input-shape")


def test_arrays_of_different_lengths_are_refused(toy: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=normal(4, 24).numpy(), b=normal(3, 8).numpy())
    assert_refused(compress(toy, tmp_path / "out", f"npz:{tmp_path}/x.npz", model="two"), "have a row per sample")
