"""Two real processes on this host fine-tune as one does; one that fails ends both, and says so once."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_run import FLOAT32, OPTIONS, PLAN, TinyNet, command, compressed, trained
from torch import Tensor
from typer.testing import CliRunner

from polyadic.cli import app
from polyadic.data import ImageData, load_data
from polyadic.errors import PolyadicError
from polyadic.training import ALONE, EpochRecord, processes, train_on_images
from polyadic.training.distributed import own_device

HERE = Path(__file__).parent
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_ip", "127.0.0.1"),
    *("--main_process_port", "0"),
)

Launched = tuple[Path, subprocess.CompletedProcess[str]]
"""The folder of a launch, and how it ended."""

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate, the extra distributed, is not installed"
)


def environment(**more: str) -> dict[str, str]:
    """Of the launched processes: the package from where this one has it, the CPU, one thread."""
    path = os.pathsep.join([*filter(None, sys.path)])
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **loopback, **more}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return load_data("digits", seed=0)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, digits: ImageData) -> Launched:
    """What two processes have left of all the runs in ``shared_run``, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "plan.json").write_text(json.dumps({"version": 1, "layers": PLAN.to_json()}))
    interrupted(digits, folder / "interrupted.pt")
    ran = subprocess.run(
        [*LAUNCH, str(HERE / "shared_run.py"), str(folder)],
        env=environment(POLYADIC_CACHE=str(folder / "cache")),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return folder, ran


def interrupted(data: ImageData, checkpoint: Path) -> None:
    """Leave what one process leaves that is stopped after its first epoch."""

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on_images(
            TinyNet(0),
            data,
            OPTIONS,
            teacher=TinyNet(7),
            execution=FLOAT32,
            on_progress=stop,
            checkpoint=checkpoint,
        )


def ends(launched: Launched, name: str) -> list[dict[str, Any]]:
    """What both processes wrote down of a run."""
    folder, ran = launched
    files = [folder / f"{name}-{rank}.pt" for rank in (0, 1)]
    assert all(file.exists() for file in files), ran.stderr
    return [torch.load(file, weights_only=True) for file in files]


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5)


@needs_accelerate
@pytest.mark.parametrize("name", ["plain", "mixed"])
def test_two_processes_train_as_one(launched: Launched, digits: ImageData, name: str) -> None:
    """Losses, scores and weights are those of one process to 1e-5, with augmentation, batch norm and uneven shares."""
    alone, (main, _) = trained(digits, replace(OPTIONS, mixing=name == "mixed"), ALONE), ends(launched, name)
    assert main["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert main["score_losses"] == pytest.approx(alone["score_losses"], abs=1e-5)
    assert main["best_epoch"] == alone["best_epoch"] > 0
    assert_close(alone["weights"], main["weights"])


@needs_accelerate
def test_two_processes_find_the_same_divergence(launched: Launched) -> None:
    """Both stop at the same step, retry once, and go back to the network that the main one came with."""
    main, _ = ends(launched, "diverges")
    assert main["diverged"] == [True, True]
    assert main["best_epoch"] == 0
    assert_close(dict(TinyNet(0).state_dict()), main["weights"])


@needs_accelerate
@pytest.mark.parametrize("name", ["plain", "mixed", "diverges", "resumes"])
def test_all_processes_end_with_the_same_bits(launched: Launched, name: str) -> None:
    main, other = ends(launched, name)
    for key in ("losses", "score_losses", "diverged", "start", "best", "best_epoch"):
        assert str(main[key]) == str(other[key])  # a loss may be NaN
    assert torch.equal(main["correct"], other["correct"])
    assert all(torch.equal(main["weights"][key], tensor) for key, tensor in other["weights"].items())


@needs_accelerate
def test_a_checkpoint_of_one_process_is_gone_on_with_by_two(launched: Launched, digits: ImageData) -> None:
    """The main one alone reads, writes and reports; what comes out is the run that was not interrupted."""
    whole = trained(digits, OPTIONS, ALONE)
    main, other = ends(launched, "resumes")
    assert main["seen"] == [(2, True), (3, True)]
    assert other["seen"] == []
    assert main["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    assert_close(whole["weights"], main["weights"])
    assert not (launched[0] / "interrupted.pt").exists()


@needs_accelerate
def test_compress_returns_the_same_network_everywhere(launched: Launched, digits: ImageData) -> None:
    """That of one process; the dense network is the main one's, whatever the others came with."""
    alone = compressed(digits)
    main, other = ends(launched, "compressed")
    for part in ("weights", "dense"):
        assert all(torch.equal(main[part][key], tensor) for key, tensor in other[part].items())
    assert_close(dict(alone.model.state_dict()), main["weights"])
    assert_close(dict(TinyNet(0).state_dict()), main["dense"])
    assert main["score"] == other["score"] == alone.summary.compressed_score


@needs_accelerate
def test_the_command_line_speaks_once_and_writes_once(
    launched: Launched,
) -> None:
    """One JSON object, one folder; the second process goes on quietly."""
    folder, ran = launched
    documents = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [document["out"] for document in documents] == [str(folder / "TinyNet")]
    assert len(documents[0]["provenance"]["finetuning"]) == 1
    assert (folder / "TinyNet" / "result.json").is_file()
    assert [ran.stderr.count(f"process {rank} goes on") for rank in (0, 1)] == [1, 1]


@needs_accelerate
def test_a_process_that_fails_ends_all_and_says_so_once(
    launched: Launched,
) -> None:
    """The main one finds the other gone, and leaves it at that."""
    folder, ran = launched
    assert ran.returncode != 0
    assert ran.stderr.count("broken on purpose") == 1
    assert ran.stderr.count("error:") == 1
    assert not (folder / "Breaking" / "result.json").exists()


@needs_accelerate
def test_control_c_ends_all_processes_and_is_said_once(tmp_path: Path, digits: ImageData) -> None:
    """The launcher passes it on; what was finished is kept."""
    (tmp_path / "plan.json").write_text(json.dumps({"version": 1, "layers": PLAN.to_json()}))
    mark = tmp_path / "mark"
    variables = environment(POLYADIC_CACHE=str(tmp_path / "cache"), MARK=str(mark))
    words = [*LAUNCH, "-m", "polyadic", *command(tmp_path, "Slow")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(words, env=variables, stdout=said, stderr=said)
    signal.signal(signal.SIGINT, before)
    try:
        until = time.monotonic() + 400
        while not mark.exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert mark.exists(), (tmp_path / "said").read_text()
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=100) != 0
    finally:
        run.kill()
    text = (tmp_path / "said").read_text()
    assert text.count("go on with --resume") == 1, text
    assert "error:" not in text


def test_one_process_imports_no_accelerate() -> None:
    """``python -m polyadic`` runs as ever where no launcher has set its variables."""
    program = (
        "import runpy, sys\n"
        "sys.argv = ['polyadic', 'compress', '--help']\n"
        "try:\n    runpy.run_module('polyadic', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "from polyadic.training import ALONE, processes\n"
        "assert processes() is ALONE\n"
        "assert 'accelerate' not in sys.modules\n"
    )
    variables = {name: value for name, value in environment().items() if name != "WORLD_SIZE"}
    ran = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--finetune-epochs" in ran.stdout


def test_without_accelerate_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(PolyadicError, match=r"pip install 'polyadic\[distributed\]'"):
        processes()


@needs_accelerate
def test_a_launcher_that_says_half_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PolyadicError, match=r"WORLD_SIZE=2 .* RANK expected"):
        processes()


@pytest.mark.parametrize(("rank", "said"), [("0", True), ("1", False)])
def test_other_commands_are_refused_to_several_processes(rank: str, said: bool) -> None:
    variables = {"WORLD_SIZE": "2", "RANK": rank}
    result = CliRunner().invoke(app, ["inspect", "polyadic:resnet20"], env=variables)
    assert result.exit_code == 1
    assert ("got several for inspect" in result.stderr) is said


def test_each_process_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for number in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", number)
        assert own_device() == torch.device("cuda", int(number))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(PolyadicError, match=r"process 2 \(from 0\) .* 2 CUDA devices"):
        own_device()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert own_device() == torch.device("cpu")
    monkeypatch.delenv("WORLD_SIZE")
    assert own_device() == torch.device("cuda")
