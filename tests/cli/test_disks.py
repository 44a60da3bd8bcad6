"""A disk that is full at any file, one that may only be read, a folder that goes: one sentence each."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from stage import World, assert_refused, run

import polyadic.cli.progress as command
from disks import files_in, refuse_syncs, tiny_disk
from polyadic.pipeline import Progress

PLAN = {"version": 1, "layers": [{"layer": "conv2", "format": "tucker2", "rank": [6, 6]}]}
TUNED = ("--finetune-epochs", 2, "--finetune-rate", 0.02)
QUICK = ("--formats", "tucker2,svd", "--search", "uniform", "--budget", "macs=60%")

Line = Callable[[Path, World, Path], tuple[object, ...]]


def dense(world: World) -> tuple[object, ...]:
    return (world.model, "--weights", world.weights, "--data", world.data)


def given(folder: Path) -> Path:
    """The file of a plan."""
    (folder / "given.json").write_text(json.dumps(PLAN))
    return folder / "given.json"


LINES: dict[str, Line] = {
    "search": lambda result, world, out: (
        *(
            "search",
            *dense(world),
            "--formats",
            "tucker2,svd",
            "--search",
            "uniform",
            "--budget",
            "macs=60%",
            "--out",
            out,
        ),
    ),
    "apply": lambda result, world, out: ("apply", *dense(world), "--plan", given(out.parent), "--out", out),
    "apply without images": lambda result, world, out: (
        *("apply", *dense(world)[:3], "--input-shape", "3,8,8", "--plan", given(out.parent), "--out", out),
    ),
    "finetune": lambda result, world, out: (
        *("finetune", result, "--trust-code", *dense(world)[1:], *TUNED, "--out", out),
    ),
    "plan": lambda result, world, out: (
        *("plan", *dense(world)[:3], "--input-shape", "3,8,8", *QUICK, "--out", out / "plan.json"),
    ),
    "export": lambda result, world, out: ("export", result, "--trust-code", "--to", "pt2", "--out", out),
    "bench": lambda result, world, out: (
        *("bench", result, "--trust-code", "--engines", "pytorch", "--rounds", 3, "--seconds", 0, "--no-memory"),
        *("--out", out),
    ),
    "quantize": lambda result, world, out: (
        *("quantize", result, "--trust-code", "--data", world.data, "--images", 32, "--judges", 30, "--no-ends"),
        *("--batches", 1, "--seconds", 0.01, "--out", out),
    ),
    "report": lambda result, world, out: ("report", result, "--out", out / "page.html", "--figures", out / "figures"),
    "compare": lambda result, world, out: ("report", result, result, "--out", out / "page.html"),
    "analyze degeneracy": lambda result, world, out: (
        *("analyze", "degeneracy", *dense(world), "--ranks", 2, "--methods", "als", "--out", out),
    ),
    "analyze layers": lambda result, world, out: (
        *("analyze", "layers", *dense(world), "--formats", "svd", "--shares", 0.5, "--images", 30, "--no-tune"),
        *("--out", out),
    ),
    "analyze truncation": lambda result, world, out: (
        *("analyze", "truncation", *dense(world), "--cuts", "o", "--shares", 0.5, "--images", 30, "--out", out),
        *("--calibration-images", 30, "--test-images", 30, "--no-joint", "--retrain", "o=0.5", "--retrain-epochs", 1),
        *("--retrain-steps", 1, "--draws", 1),
    ),
    "compress in rounds": lambda result, world, out: (
        *("compress", *dense(world), *QUICK, "--rounds", 2, "--finetune-epochs", 2, "--out", out),
    ),
}


@pytest.fixture
def result(finished: tuple[Path, Result], tmp_path: Path) -> Path:
    """A finished result of our own."""
    return Path(shutil.copytree(finished[0], tmp_path / "result"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_disk_that_is_full_from_any_file_on(
    world: World, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At the first file, at the last one, and at two in between; nothing half written is left, and no lock."""
    if name == "quantize" and importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("no ONNX Runtime")
    before = {path: (result / path).read_bytes() for path in files_in(result)}
    syncs: list[int] = []
    with monkeypatch.context() as counting:
        counting.setenv("POLYADIC_CACHE", str(tmp_path / "cache"))
        real = os.fsync
        counting.setattr(os, "fsync", lambda handle: (syncs.append(handle), real(handle))[1])
        whole = run(*LINES[name](result, world, tmp_path / "whole"))
        assert whole.exit_code == 0, whole.output
    for after in sorted({0, len(syncs) // 3, 2 * len(syncs) // 3, len(syncs) - 1}):
        out = tmp_path / f"after-{after}"
        with monkeypatch.context() as full:
            full.setenv("POLYADIC_CACHE", str(tmp_path / f"cache-{after}"))
            refuse_syncs(full, after=after)
            refused = run(*LINES[name](result, world, out))
        assert refused.exit_code == 1, (after, refused.output)
        assert [text for text in refused.stderr.splitlines() if text.startswith("error:")], refused.stderr
        assert "needs free disk space" in refused.stderr, (after, refused.stderr)
        assert "Traceback" not in refused.stderr
        left = files_in(out) if out.exists() else set()
        assert left <= files_in(tmp_path / "whole") | {".finetune.pt", "round-1/.finetune.pt", "retrained.jsonl"}
    assert {path: (result / path).read_bytes() for path in files_in(result)} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_disk_that_may_only_be_read(world: World, result: Path, tmp_path: Path, name: str) -> None:
    if name == "quantize" and importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("no ONNX Runtime")
    with tiny_disk(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for out in (disk, disk / "out"):
            words = LINES[name](result, world, tmp_path / "out")
            words = tuple(_moved(word, tmp_path / "out", out) for word in words)
            assert_refused(run(*words), r"could not be read or written \(Read-only file system\): check the path")


def _moved(word: object, old: Path, new: Path) -> object:
    """The word, with the folder ``new`` in the place of ``old``."""
    return new / word.relative_to(old) if isinstance(word, Path) and word.is_relative_to(old) else word


def test_a_folder_that_goes_during_the_search_is_said_and_not_made_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log without its beginning could not be gone on with."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        remove_at(patch, out, "search")
        assert_refused(world.compress(out), r"trials.jsonl could not be read or written \(No such file or directory\)")
    assert not out.exists()
    assert world.compress(out).exit_code in (0, 3)


def test_a_folder_that_goes_during_the_training_is_made_again_and_whole(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        remove_at(patch, out, "finetune")
        assert world.compress(out).exit_code in (0, 3)
    assert {"result.json", "plan.json", "model.safetensors", "README.md"} <= files_in(out)
    assert run("evaluate", out, "--data", world.data, "--trust-code").exit_code == 0


def remove_at(patch: pytest.MonkeyPatch, out: Path, stage: str) -> None:
    """Remove the folder once, when ``stage`` is shown first."""
    show, done = command.ProgressBars.show, []

    def remove(self: command.ProgressBars, progress: Progress) -> None:
        show(self, progress)
        if progress.stage == stage and not done:
            done.append(progress)
            shutil.rmtree(out)

    patch.setattr(command.ProgressBars, "show", remove)
