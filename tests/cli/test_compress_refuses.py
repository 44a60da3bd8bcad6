"""What compress cannot do: one sentence, a status, and no file that looks like a result."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stage import NETWORK, World, assert_refused, images, run

from disks import files_in, refuse_syncs, tiny_disk

DRAGNET = """
import torch
from torch import nn

def needs_all():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    model[1].weight.data = torch.eye(3)
    return model

def tiny():
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 1))

def undefined():
    model = needs_all()
    model[1].weight.data[0, 0] = float("nan")
    return model

def one_layer():
    return nn.Linear(3, 3)
"""


@pytest.fixture
def line(tmp_path: Path) -> tuple[str, str]:
    """A file of factories, and images of 1 x 3 pixels of which one is bright: 2 dimensions are not enough for them."""
    (tmp_path / "line.py").write_text(DRAGNET)
    eye = (255 * np.eye(3)).astype(np.uint8).reshape(3, 1, 3)
    for role in ("train", "test"):
        np.savez(tmp_path / f"line_{role}.npz", x=eye[[0, 1, 2] * 30], y=np.array([0, 1, 2] * 30))
    return f"{tmp_path}/line.py", f"npz:{tmp_path}/line"


def assert_no_result(out: Path, allowed: frozenset[str] = frozenset()) -> None:
    assert not out.exists() or files_in(out) <= allowed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_drop": -0.5}, "max_drop is a number of points from 0 to below 100 .* got -0.5"),
        ({"max_drop": 100}, "max_drop is a number of points"),
        ({"max_drop": "nan"}, "max_drop is a number of points"),
        ({"max_drop_per_layer": -1}, "is a number of points"),
        ({"formats": "cp-epc,cp"}, "a format is one of .*; got 'cp'"),
        ({"formats": " , "}, "at least one format"),
        ({"finetune_epochs": -1}, "--finetune-epochs is 0 or more"),
        ({"finetune_rate": 0}, "learning_rate is finite and above 0"),
        ({"finetune_minutes": 1}, "ends the training with samples, and these are images with labels"),
        ({"seed": -1}, "a seed is a whole number from 0|seed"),
        ({"held_out": 0}, "held-out part"),
        ({"held_out": 300}, "held-out part"),
        ({"mean": "a,b,c"}, "--mean is a list of numbers"),
        ({"mean": "0.5"}, "one number per channel"),
        ({"std": "0,0,0"}, "std positive"),
        ({"data": "npz:absent"}, "none was found"),
        ({"data": "cifar10:absent"}, "absent"),
        ({"exclude": "*"}, "none of the 3 layers can be made cheaper"),
        ({"weights": "absent.safetensors"}, "weights need a file"),
    ],
)
def test_options_out_of_range(world: World, tmp_path: Path, options: dict[str, object], expected: str) -> None:
    assert_refused(world.compress(tmp_path / "out", **options), expected)
    assert_no_result(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state["conv1.weight"].view(-1)[3:5].fill_(torch.nan), "2 of 432 values of 'conv1.weight'"),
        (lambda state: state["norm1.running_var"][:1].fill_(torch.inf), "1 of 16 values of 'norm1.running_var'"),
        (lambda state: state.pop("head.bias"), r"1 missing: head.bias \(3,\)"),
        (lambda state: state.update(extra=torch.zeros(2)), "1 unexpected: extra"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(17, 3, 3, 3)}),
            r"conv1.weight came as \(17, 3, 3, 3\), expected \(16, 3, 3, 3\)",
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_that_do_not_fit(world: World, tmp_path: Path, change: Any, expected: str, suffix: str) -> None:
    state = load_file(world.weights)
    change(state)
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert_refused(world.compress(tmp_path / "out", weights=path), expected)
    assert_no_result(tmp_path / "out")


class Trap:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["torch", "torch, beside tensors", "pickle"])
def test_a_pickle_is_never_run(world: World, tmp_path: Path, kind: str) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "weights.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(trap)))
    else:
        torch.save({**load_file(world.weights), "more": Trap(trap)} if "beside" in kind else Trap(trap), path)
    assert_refused(world.compress(tmp_path / "out", weights=path), "which are never unpickled")
    assert not trap.exists()
    assert_no_result(tmp_path / "out")


@pytest.mark.parametrize(
    ("role", "x", "y", "expected"),
    [
        ("train", np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, int), "may not be empty"),
        ("test", np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, int), "may not be empty"),
        ("test", images(3, 0)[0], np.array([0, 1, 7]), r"labels lie in 0..2 .* label 2 of the test set .* is 7"),
        ("train", images(9, 0)[0], np.array([0, 1, 2] * 2 + [0, 1, -1]), "labels are whole numbers from 0; label 8"),
        ("train", images(90, 0)[0], np.array([0, 1, 5] * 30), "labels lie from 0 to 2 for 3 logits"),
        ("train", images(9, 0)[0], np.zeros(8, int), "every image has one label"),
        ("train", images(9, 0)[0].astype(float), np.zeros(9, int), "images are uint8"),
        ("train", images(9, 0)[0][..., 0], np.arange(9) % 3, "have one shape"),
    ],
)
def test_images_that_cannot_be_used(world: World, tmp_path: Path, role: str, x: Any, y: Any, expected: str) -> None:
    for name in ("train", "test"):
        good = images(90, 3)
        np.savez(tmp_path / f"bad_{name}.npz", x=x if name == role else good[0], y=y if name == role else good[1])
    assert_refused(world.compress(tmp_path / "out", data=f"npz:{tmp_path}/bad"), expected)
    assert_no_result(tmp_path / "out", frozenset({"trials.jsonl"}))


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("needs_all", "no layer can be made cheaper with at most 0 points lost"),
        ("tiny", "none of the 1 layers can be made cheaper by svd"),
        ("undefined", r"'1.weight' has 1 NaN or Inf of 9"),
        ("one_layer", "the model itself is this layer"),
    ],
)
def test_budgets_and_networks_that_leave_nothing_to_do(
    line: tuple[str, str], tmp_path: Path, factory: str, expected: str
) -> None:
    words = ("--data", line[1], "--max-drop", 0, "--formats", "svd", "--finetune-epochs", 1)
    result = run("compress", f"{line[0]}:{factory}", *words, "--out", tmp_path / "out")
    assert_refused(result, expected)
    assert_no_result(tmp_path / "out", frozenset({"trials.jsonl"}))


def test_a_network_for_other_images(world: World, tmp_path: Path, line: tuple[str, str]) -> None:
    assert_refused(world.compress(tmp_path / "out", data=line[1]), r"failed on (an example input of )?shape")
    (tmp_path / "net.py").write_text(NETWORK)
    result = world.compress(tmp_path / "out", data=f"{tmp_path}/net.py:build")
    assert_refused(result, "batches .*, or polyadic.data.ImageData; it gave Net")
    assert_no_result(tmp_path / "out")


def test_a_result_is_not_overwritten(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("precious")
    assert_refused(world.compress(out), "already holds a result: choose another folder, or --resume")
    assert (out / "result.json").read_text() == "precious"
    assert files_in(out) == {"result.json"}
    (out / "result.json").rename(out / "trials.jsonl")
    assert_refused(world.compress(out), "holds trials of an earlier run")
    assert (out / "trials.jsonl").read_text() == "precious"


def test_another_run_is_not_resumed(world: World, tmp_path: Path) -> None:
    out, quick = tmp_path / "out", {"max_drop": 60, "finetune_epochs": 0}
    world.compress(out, **quick)
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    for change in ({"seed": 1}, {"formats": "tucker2"}, {"max_drop": 61}, {"weights": None}, {"held_out": 61}):
        options: dict[str, object] = {**quick, **change}
        assert_refused(
            world.compress(out, "--resume", **options), "belongs to a run with another model, data or options"
        )
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before


def test_a_folder_that_cannot_be_one(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert_refused(world.compress(out), "could not be read or written")
    assert files_in(tmp_path) == {"file"}


@pytest.mark.parametrize(("size", "epochs"), [("8k", 0), ("12k", 2)])
def test_a_full_disk_leaves_the_log_and_nothing_half_written(
    world: World, tmp_path: Path, size: str, epochs: int
) -> None:
    """8 KiB hold the log and no weights; 12 KiB no checkpoint of the training either."""
    with tiny_disk(tmp_path / "disk", size) as disk:
        result = world.compress(disk / "out", max_drop=60, finetune_epochs=epochs)
        assert_refused(result, "needs free disk space .* run again with --resume")
        assert_no_result(disk / "out", frozenset({"trials.jsonl"}))


@pytest.mark.parametrize("after", [0, 4, 14])
def test_a_disk_that_fills_up_at_any_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """0: at the first line of the log; 4: at a trial; later: at the weights."""
    with monkeypatch.context() as full:
        refuse_syncs(full, after=after)
        result = world.compress(tmp_path / "out", max_drop=60, finetune_epochs=0)
        assert_refused(result, "needs free disk space")
        assert_no_result(tmp_path / "out", frozenset({"trials.jsonl"}))
    assert world.compress(tmp_path / "out", "--resume", max_drop=60, finetune_epochs=0).exit_code in (0, 3)


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_what_must_be_given_is_asked_for(world: World, tmp_path: Path, missing: str) -> None:
    words = world.compress_line(tmp_path / "out")
    at = words.index(missing)
    result = run(*words[:at], *words[at + 2 :])
    assert result.exit_code == 2
    assert missing in result.stderr
    assert_no_result(tmp_path / "out")
