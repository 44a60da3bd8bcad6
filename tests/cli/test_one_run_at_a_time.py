"""Of two commands that write to one folder at once, the second is refused, and the first ends as if alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from stage import LONG, World, assert_refused, run

from disks import files_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")

PAUSED = """
import sys
import torch
from polyadic.cli import app
import polyadic.cli.progress as command

torch.set_num_threads(1)
show = command.ProgressBars.show

def wait(self, progress):
    command.ProgressBars.show = show
    print("at work", flush=True)
    sys.stdin.read()

command.ProgressBars.show = wait
app()
"""


@pytest.fixture
def at_work(world: World, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A folder, and a process that compresses into it and waits in the middle of that."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, *world.compress_line(out, **LONG)],
        env=dict(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield out, process
    finally:
        process.kill()
        process.communicate()


def test_the_second_of_two_commands_is_refused_and_the_first_ends_as_if_alone(
    world: World, finished: tuple[Path, Result], at_work: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    out, first = at_work
    images = ("--data", world.data, "--weights", world.weights)
    for words in (
        world.compress_line(out, **LONG),
        world.compress_line(out, "--resume", **LONG),
        ("search", world.model, *images, "--budget", "macs=50%", "--out", out, "--resume"),
        ("apply", world.model, *images, "--plan", finished[0], "--out", out),
        ("finetune", finished[0], "--trust-code", *images, "--out", out),
        ("quantize", finished[0], "--trust-code", "--data", world.data, "--out", out),
        ("export", finished[0], "--trust-code", "--to", "pt2", "--out", out),
        ("export", finished[0], "--trust-code", "--to", "pt2", "--out", out / "other.pt2"),
        ("analyze", "degeneracy", world.model, "--data", world.data, "--out", out),
    ):
        assert_refused(run(*words), f"process {first.pid} writes to {out}: wait until it has ended, or choose another")
    assert files_in(out) == {".lock", "trials.jsonl"}
    assert world.compress(tmp_path / "other", **LONG).exit_code in (0, 3), "another folder is free"
    first.communicate("")
    assert first.returncode in (0, 3)
    assert (out / "plan.json").read_bytes() == (finished[0] / "plan.json").read_bytes()
    assert files_in(out) == files_in(finished[0])


def test_workers_of_one_study_may_share_a_folder(
    world: World, at_work: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The folder is locked here by a command that shares nothing, which a worker does not ask for."""
    out, _ = at_work
    words = ["--data", world.data, "--weights", world.weights, "--formats", "tucker2,svd", "--search", "uniform"]
    words += ["--budget", "macs=40%", "--storage", tmp_path / "study.db", "--out", out]
    assert run("search", world.model, *words).exit_code == 0
    assert {"plan.json", "search.json"} <= files_in(out)
