"""A saved result is trained further: alone, interrupted, without a teacher, by two processes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from stage import World, assert_refused, images, last_json, run

from polyadic.cli.progress import ProgressBars
from polyadic.schema import OWN_LOOP

LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_ip", "127.0.0.1"),
    *("--main_process_port", "0", "-m", "polyadic"),
)


@pytest.fixture(scope="module")
def saved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result that was not fine-tuned."""
    folder = tmp_path_factory.mktemp("saved")
    plan = {"version": 1, "layers": [{"layer": "conv2", "format": "tucker2", "rank": [1, 2]}]}
    (folder / "plan.json").write_text(json.dumps(plan))
    done = world.compress(folder / "out", plan=folder / "plan.json", formats=None, max_drop=None, finetune_epochs=0)
    assert done.exit_code == 0, done.output
    return folder / "out"


def line(world: World, saved: Path, out: Path, *more: object, **options: object) -> list[str]:
    """The words of the command with quick defaults; ``options`` replace or (None) leave out."""
    known = {"weights": world.weights, "data": world.data, "finetune_epochs": 2, "finetune_rate": 0.02, "out": out}
    words = ["finetune", str(saved), "--trust-code", "--json"]
    for key, value in {**known, **options}.items():
        words += [] if value is None else [f"--{key.replace('_', '-')}", str(value)]
    return [*words, *(str(word) for word in more)]


def result_of(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "result.json").read_text())
    assert isinstance(document, dict)
    return document


def test_a_result_is_trained_further_into_a_folder_of_its_own(world: World, saved: Path, tmp_path: Path) -> None:
    """The same plan and costs, new scores, and where it comes from; the files load by themselves."""
    before, files = result_of(saved), {path.name: path.read_bytes() for path in saved.iterdir()}
    said = last_json(run(*line(world, saved, tmp_path / "out", "--freeze-statistics", finetune_epochs=20)))
    after = result_of(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == files
    for key in ("params", "macs", "bytes"):
        assert [after[side][key] for side in ("dense", "compressed")] == [
            before[side][key] for side in ("dense", "compressed")
        ]
    assert (tmp_path / "out" / "plan.json").read_bytes() == files["plan.json"]
    assert after["compressed"]["score_before_finetuning"] == before["compressed"]["score"]
    assert after["dense"]["score"] == before["dense"]["score"]
    assert after["held_out"]["compressed"] > after["held_out"]["before_finetuning"]
    assert after["compressed"]["score"] == said["reloaded_score"] > before["compressed"]["score"]
    known = after["provenance"]
    assert (len(known["finetuning"]), known["finetuning_processes"], known["taught_by"]) == (20, 1, "the dense network")
    assert known["finetuned_from"]["folder"] == str(saved)
    assert known["finetuned_from"]["epochs"] == 0
    assert known["finetuned_from"]["command"].startswith("polyadic")
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / ".finetune.pt").exists()


def test_a_network_of_an_own_loop_is_no_longer_one_after_it(world: World, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "own")
    document = result_of(saved)
    document["provenance"].update(scored="by the user, who gave the number", finetuning_stop=OWN_LOOP)
    (tmp_path / "own" / "result.json").write_text(json.dumps(document))
    run(*line(world, tmp_path / "own", tmp_path / "out"))
    assert OWN_LOOP not in (tmp_path / "out" / "README.md").read_text()
    assert "scored" not in result_of(tmp_path / "out")["provenance"]


def test_an_interrupted_run_goes_on_to_the_same_weights(
    world: World, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*line(world, saved, tmp_path / "whole"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBars, "move", interrupt)
        stopped = run(*line(world, saved, tmp_path / "out"))
    assert stopped.exit_code == 130
    assert "go on with --resume" in stopped.stderr
    assert_refused(run(*line(world, saved, tmp_path / "out")), "holds a run that was interrupted: --resume goes on")
    run(*line(world, saved, tmp_path / "out", "--resume"))
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(bool((tensor == again[name]).all()) for name, tensor in whole.items())


def test_without_a_teacher_other_images_say_nothing_of_the_dense_network(
    world: World, saved: Path, tmp_path: Path
) -> None:
    for role, count, seed in (("train", 200, 5), ("test", 60, 6)):
        x, y = images(count, seed)
        np.savez(tmp_path / f"others_{role}.npz", x=x, y=y)
    words = line(world, saved, tmp_path / "out", "--no-teacher", weights=None, data=f"npz:{tmp_path}/others")
    assert run(*words).exit_code == 0
    after = result_of(tmp_path / "out")
    assert after["dense"]["score"] is None
    assert after["held_out"]["dense"] is None
    assert after["provenance"]["taught_by"] == "labels alone"
    assert "distillation=0.0" in after["provenance"]["network_tuning"]


def test_what_it_refuses(world: World, saved: Path, tmp_path: Path) -> None:
    assert_refused(run(*line(world, saved, saved)), "already holds a result: choose another folder")
    assert_refused(run(*line(world, tmp_path, tmp_path / "out")), "plan.json")
    assert_refused(
        run(*line(world, Path(world.model), tmp_path / "out")), "goes on with the folder of a result; .* is none"
    )
    assert_refused(run(*line(world, saved, tmp_path / "out", "--no-teacher")), "leave out --no-teacher")
    assert_refused(run(*line(world, saved, tmp_path / "out", finetune_epochs=0)), "at least one epoch")
    library = tmp_path / "library"
    library.mkdir()
    for path in saved.iterdir():
        (library / path.name).write_bytes(path.read_bytes())
    plan = json.loads((library / "plan.json").read_text())
    plan["origin"]["model"] = "polyadic:resnet20"
    (library / "plan.json").write_text(json.dumps(plan))
    refused = run(*line(world, library, tmp_path / "out", weights=None))
    assert_refused(
        refused, "resnet20 teaches, .* give them with --weights, or learn from labels alone with --no-teacher"
    )


def test_a_run_that_was_killed_before_its_page_gets_it(world: World, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = last_json(run(*line(world, saved, out)))
    weights = (out / "model.safetensors").read_bytes()
    (out / "report.html").unlink()
    again = last_json(run(*line(world, saved, out, "--resume")))
    assert (out / "report.html").exists()
    assert again == {key: value for key, value in said.items() if key != "reloaded_score"}
    assert (out / "model.safetensors").read_bytes() == weights


def variables() -> dict[str, str]:
    """Of launched processes: the package from where this one has it, the CPU, one thread."""
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **loopback, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


needs_accelerate = pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="no accelerate")


@pytest.mark.slow
@needs_accelerate
def test_two_processes_write_one_folder_and_speak_once(world: World, saved: Path, tmp_path: Path) -> None:
    """The first one alone; what becomes of batch norm on the CPU is said. An error is said once, too."""

    def launch() -> subprocess.CompletedProcess[str]:
        words = [*LAUNCH, *line(world, saved, tmp_path / "out")]
        return subprocess.run(words, env=variables(), capture_output=True, text=True, timeout=300, check=False)

    ran = launch()
    assert ran.returncode == 0, ran.stderr
    said = [json.loads(text) for text in ran.stdout.splitlines() if text.startswith("{")]
    assert [document["out"] for document in said] == [str(tmp_path / "out")]
    assert result_of(tmp_path / "out")["provenance"]["finetuning_processes"] == 2
    assert ran.stderr.count("2 processes share every batch; batch norm normalises the rows of each") == 1
    again = launch()
    assert again.returncode != 0
    assert again.stderr.count("already holds a result") == 1


@pytest.mark.slow
@needs_accelerate
def test_control_c_ends_all_processes_and_is_said_once(world: World, saved: Path, tmp_path: Path) -> None:
    """The launcher passes it on; what was finished is kept."""
    words = [*LAUNCH, *line(world, saved, tmp_path / "out", finetune_epochs=100_000)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    with (tmp_path / "said").open("w") as said:
        launched = subprocess.Popen(words, env=variables(), stdout=said, stderr=said)
    signal.signal(signal.SIGINT, before)
    try:
        until = time.monotonic() + 200
        while not (tmp_path / "out" / ".finetune.pt").exists() and time.monotonic() < until:
            time.sleep(0.1)
        launched.send_signal(signal.SIGINT)
        assert launched.wait(timeout=100) != 0
    finally:
        launched.kill()
    text = (tmp_path / "said").read_text()
    assert text.count("go on with --resume") == 1, text
    assert "error:" not in text
    assert (tmp_path / "out" / ".finetune.pt").exists()
