"""How images of a folder become inputs, as the command line says it, and what is kept of that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stage import assert_refused, last_json, run

CODE = """
import torch
from torch import nn


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.second = nn.Conv2d(16, 16, 3)

    def forward(self, x):
        assert x.shape[1:] == (8, 6, 3) and x.min() >= 0 and x.max() > 2, x.shape
        return self.second(torch.relu(self.first(x.permute(0, 3, 1, 2) / 255)))


def build():
    torch.manual_seed(0)
    return Last()
"""
SAID = ("--input-size", "8x6", "--channel-order", "bgr", "--layout", "nhwc", "--value-range", "0,255")
PLAN = ("--formats", "svd,tucker2", "--search", "uniform", "--budget", "macs=60%", "--alarm-at", 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "net.py").write_text(CODE)
    (folder / "photos").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (9 + number, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    np.save(folder / "x.npy", np.zeros((4, 8, 6, 3), np.float32))
    return folder


def test_a_network_gets_its_images_in_its_own_way_and_the_result_says_how(place: Path, tmp_path: Path) -> None:
    data = ("--data", f"samples:{place}/photos")
    line = ("compress", f"{place}/net.py:build", *data, *SAID, *PLAN, "--finetune-epochs", 0)
    said = last_json(run(*line, "--out", tmp_path / "out", "--json"))
    assert said["provenance"]["pixels"] == {
        "size": [8, 6],
        "channels": 3,
        "channel_order": "bgr",
        "layout": "NHWC",
        "value_range": "0,255",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "resized": True,
    }
    origin = json.loads((tmp_path / "out" / "plan.json").read_text())["origin"]
    assert (origin["input_shape"], origin["layout"], origin["channel_order"]) == ([8, 6, 3], "NHWC", "bgr")
    assert origin["std"] == pytest.approx([1 / 255] * 3)
    # of a saved network all of that is known
    done = run("evaluate", tmp_path / "out", "--trust-code", *data, "--json")
    assert last_json(done)["score"] == pytest.approx(said["compressed"]["score"], abs=1e-6)


def test_the_size_of_images_is_the_size_of_an_input(place: Path) -> None:
    said = run("inspect", f"{place}/net.py:build", "--data", f"samples:{place}/photos", *SAID)
    assert said.exit_code == 0, said.output
    assert "one input of 8 x 6 x 3" in said.stdout


@pytest.mark.parametrize("name", ["compress", "search", "plan", "apply", "finetune", "evaluate", "inspect"])
def test_help_says_what_there_is_and_what_is_taken(name: str) -> None:
    said = " ".join(run(name, "--help").stdout.replace("│", " ").split())
    for words in ("--input-size", "rgb (the default)", "nchw or nhwc", "0,1 (the default), 0,255 or -1,1"):
        assert words in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--input-size", "8x6x3"), "--input-size is a height and a width from 1 up, .* got '8x6x3'"),
        (("--input-size", "0"), "--input-size is a height and a width"),
        (("--input-size", "8", "--input-shape", "8,6,3"), "both say how large an input is"),
        (("--channel-order", "rbg"), "the channel order is rgb or bgr or grey; got 'rbg'"),
        (("--layout", "chw"), "the layout is NCHW or NHWC; got 'CHW'"),
        (("--value-range", "0,2"), "the range of values is 0,1 or 0,255 or -1,1; got '0,2'"),
        (("--mean", "1,2"), "mean has one number per channel; got 2 for 3"),
    ],
)
def test_what_is_not_so_is_answered_in_a_sentence(place: Path, words: tuple[str, ...], message: str) -> None:
    assert_refused(run("inspect", f"{place}/net.py:build", "--data", f"samples:{place}/photos", *words), message)


@pytest.mark.parametrize("words", [SAID[:2], SAID[2:4], SAID[4:6], SAID[6:], ("--value-range", "-1,1")])
def test_they_are_of_image_files_alone(place: Path, words: tuple[str, ...]) -> None:
    message = f"{words[0]}: of image files alone"
    assert_refused(run("inspect", f"{place}/net.py:build", "--data", f"npy:{place}/x.npy", *words), message)
    message = f"{words[0]}: of samples, and there are none"
    assert_refused(run("inspect", f"{place}/net.py:build", *words), message)
