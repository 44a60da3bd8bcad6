"""A run that is killed goes on from what is on disk, to the same network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from stage import LONG, World

import polyadic.cli.progress as command
from disks import files_in
from polyadic.pipeline import Progress

DEADLY = """
import os, signal, sys
from pathlib import Path
import torch
from polyadic.cli import app
import polyadic.cli.progress as command

torch.set_num_threads(1)
moment, done = sys.argv.pop(1).split(":")
show, replace = command.ProgressBars.show, Path.replace

def deadly_show(self, progress):
    if (progress.stage, str(progress.done)) == (moment, done):
        os.kill(os.getpid(), signal.SIGKILL)
    show(self, progress)

def deadly_replace(self, target):
    if moment == "save" and target.name == done:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

command.ProgressBars.show, Path.replace = deadly_show, deadly_replace
app()
"""


def killed(moment: str, words: list[str]) -> None:
    """Run the command in a process of its own that is killed at ``moment``."""
    ran = subprocess.run(
        [sys.executable, "-c", DEADLY, moment, *words],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL, (moment, ran.returncode, ran.stderr)


def trials(folder: Path) -> list[dict[str, Any]]:
    """The trials of a log without their times."""
    lines = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()[1:]]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def singles(folder: Path) -> int:
    """How many trials of single layers a log holds."""
    return len([trial for trial in trials(folder) if len(trial["plan"]) == 1])


def layers(folder: Path) -> object:
    return json.loads((folder / "plan.json").read_text())["layers"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """What the progress bars of this process are told."""
    steps: list[Progress] = []
    show = command.ProgressBars.show

    def note(self: command.ProgressBars, progress: Progress) -> None:
        steps.append(progress)
        show(self, progress)

    monkeypatch.setattr(command.ProgressBars, "show", note)
    return steps


def assert_same_end(folder: Path, finished: Path) -> None:
    assert layers(folder) == layers(finished)
    assert trials(folder) == trials(finished)
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert files_in(folder) == files_in(finished)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(
    world: World, finished: tuple[Path, Result], tmp_path: Path, shown: list[Progress]
) -> None:
    out, log = tmp_path / "out", tmp_path / "out" / "trials.jsonl"
    words = world.compress_line(out, **LONG)
    total = singles(finished[0])

    killed("search:2", words)
    first = log.read_bytes()
    assert files_in(out) == {"trials.jsonl", ".lock"}  # a file that nobody holds any more
    assert len(trials(out)) == 2

    log.write_bytes(first + b'{"trial": 3, "plan": [{"lay')  # as a kill in the middle of a line leaves it
    killed(f"search:{total - 1}", [*words, "--resume"])
    second = log.read_bytes()
    assert second.startswith(first)
    assert len(trials(out)) == total - 1

    killed("finetune:1", [*words, "--resume"])
    third = log.read_bytes()
    assert third.startswith(second)
    assert files_in(out) == {"trials.jsonl", ".finetune.pt", ".lock"}

    killed("save:model.safetensors", [*words, "--resume"])
    assert "result.json" not in files_in(out)
    assert any(name.endswith(".partial") for name in files_in(out))

    result = world.compress(out, "--resume", **LONG)
    assert result.exit_code in (0, 3), result.stderr
    assert log.read_bytes() == third
    assert not [step for step in shown if step.stage == "search"]
    assert_same_end(out, finished[0])


def test_training_goes_on_after_the_epoch_that_was_on_disk(
    world: World, finished: tuple[Path, Result], tmp_path: Path, shown: list[Progress]
) -> None:
    out = tmp_path / "out"
    killed("finetune:2", world.compress_line(out, **LONG))
    result = world.compress(out, "--resume", **LONG)
    assert result.exit_code in (0, 3)
    epochs = [step.done for step in shown if step.stage == "finetune"]
    assert epochs == [3]
    assert_same_end(out, finished[0])


@pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="an interrupt may end a worker: pytest -n 0 runs it")
@pytest.mark.parametrize("moment", [("search", 3), ("finetune", 2)])
def test_control_c_ends_with_130_and_what_was_finished_is_kept(
    world: World,
    finished: tuple[Path, Result],
    tmp_path: Path,
    shown: list[Progress],
    monkeypatch: pytest.MonkeyPatch,
    moment: tuple[str, int],
) -> None:
    out, show = tmp_path / "out", command.ProgressBars.show

    def press(self: command.ProgressBars, progress: Progress) -> None:
        show(self, progress)
        if (progress.stage, progress.done) == moment:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(command.ProgressBars, "show", press)
            result = world.compress(out, **LONG)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "go on with --resume" in result.stderr
    assert "Traceback" not in result.stderr
    assert files_in(out) <= {"trials.jsonl", ".finetune.pt"}
    tried = singles(out)
    shown.clear()
    assert world.compress(out, "--resume", **LONG).exit_code in (0, 3)
    assert len([step for step in shown if step.tried is not None]) == singles(finished[0]) - tried
    assert_same_end(out, finished[0])


def test_a_finished_run_that_is_resumed_stays_as_it_is(
    world: World, finished: tuple[Path, Result], tmp_path: Path, shown: list[Progress]
) -> None:
    out = tmp_path / "out"
    world.compress(out, **LONG)
    before = {name: (out / name).read_bytes() for name in ("plan.json", "model.safetensors", "trials.jsonl")}
    shown.clear()
    assert world.compress(out, "--resume", **LONG).exit_code in (0, 3)
    assert {name: (out / name).read_bytes() for name in before} == before
    assert not [step for step in shown if step.stage == "search"]
    assert_same_end(out, finished[0])
