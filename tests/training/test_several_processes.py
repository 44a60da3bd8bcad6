"""Two real processes on this host fine-tune one network; without a launcher nothing of them is there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from corners import SmallNet, corner_data
from shared_run import OPTIONS, cases, trained
from torch import Tensor, nn
from typer.testing import CliRunner

from polyadic.cli import app
from polyadic.errors import PolyadicError
from polyadic.training import (
    Augmentation,
    Execution,
    FinetuneOptions,
    augment,
    connect_processes,
    one_voice,
    several_processes,
    train_on_images,
)
from polyadic.training.several_processes import shared_batch_norm
from polyadic.training.trainer import Job

LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_ip", "127.0.0.1"),
    *("--main_process_port", "0"),
)

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate, the extra distributed, is not installed"
)


def member(rank: int, count: int) -> Any:
    """One of several processes, which never meets the others."""
    return SimpleNamespace(process_index=rank, num_processes=count, is_main_process=rank == 0)


def environment(**more: str) -> dict[str, str]:
    """Of the launched processes: the package from where this one has it, the CPU, one thread."""
    path = os.pathsep.join([*filter(None, sys.path)])
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **loopback, **more}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What two processes have left of the runs in ``shared_run``, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    command = [*LAUNCH, str(Path(__file__).parent / "shared_run.py"), str(folder)]
    return folder, subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def ends(launched: tuple[Path, subprocess.CompletedProcess[str]], name: str) -> list[dict[str, Any]]:
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
@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_both_processes_end_with_the_same_bits(launched: Any, name: str) -> None:
    main, other = ends(launched, name)
    for key in ("losses", "score_losses", "start", "best_epoch"):
        assert str(main[key]) == str(other[key])  # a loss may be NaN
    assert torch.equal(main["correct"], other["correct"])
    assert all(torch.equal(main["weights"][key], tensor) for key, tensor in other["weights"].items())


@needs_accelerate
@pytest.mark.slow
@pytest.mark.parametrize("name", ["frozen", "mixed", "diverges"])
def test_with_frozen_statistics_two_processes_train_as_one(launched: Any, name: str) -> None:
    """To 1e-5, with augmentation and uneven shares; a divergence goes back to the network that the main one had."""
    alone, (main, _) = trained(cases()[name]), ends(launched, name)
    assert main["losses"] == pytest.approx(alone["losses"], rel=1e-4, abs=1e-5)
    assert main["best_epoch"] == alone["best_epoch"]
    assert_close(alone["weights"], main["weights"])


@needs_accelerate
@pytest.mark.slow
def test_of_a_batch_each_process_normalises_its_own_rows_on_the_cpu(launched: Any) -> None:
    """So it is not what one process does, but it learns as well."""
    alone, (main, _) = trained(OPTIONS), ends(launched, "own statistics")
    assert main["losses"] != pytest.approx(alone["losses"], rel=1e-4)
    assert main["best_epoch"] > 0
    assert min(main["score_losses"]) < main["start"] / 2


@needs_accelerate
@pytest.mark.slow
def test_one_process_goes_on_from_the_checkpoint_of_two(launched: Any) -> None:
    """The main one alone reports and writes; after its first epoch one process alone comes to the same end."""
    folder, _ = launched
    main, other = ends(launched, "frozen")
    assert (main["seen"], other["seen"]) == ([1, 2, 3], [])
    assert not (folder / "frozen.pt").exists()
    (folder / "frozen.first").rename(folder / "again.pt")
    alone = trained(cases()["frozen"], checkpoint=folder / "again.pt")
    assert alone["seen"] == [2, 3]
    assert_close(alone["weights"], main["weights"])


@needs_accelerate
@pytest.mark.slow
def test_a_process_that_fails_alone_says_so_and_ends_all(launched: Any) -> None:
    """The other one waits for it, and is ended by the launcher without a word."""
    _, ran = launched
    assert ran.returncode != 0
    assert [ran.stderr.count(f"process {rank} goes on") for rank in (0, 1)] == [1, 1]
    assert ran.stderr.count("error: broken on purpose") == 1


@pytest.mark.parametrize(("total", "count"), [(1, 1), (7, 7), (33, 2), (128, 5), (3, 4)])
def test_rows_are_shared_out_evenly(total: int, count: int) -> None:
    """Every row once, in order; shares differ by at most one."""
    data, net = corner_data(), SmallNet()
    jobs = [
        Job(net, data, OPTIONS, None, Execution(), data.held_out, [], True, member(rank, count))
        for rank in range(count)
    ]
    shares = [range(total)[job.rows(total)] for job in jobs]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    with pytest.raises(PolyadicError, match=r"each of 40 processes .* got 33, 192 and 120 images"):
        train_on_images(SmallNet(), corner_data(), FinetuneOptions(batch_size=33), accelerator=member(3, 40))


def test_a_part_of_a_batch_is_augmented_as_in_the_batch() -> None:
    """Parts in any order undergo what the whole undergoes, and leave the generator where it leaves it."""
    images = corner_data().train.images(torch.arange(9))
    options = Augmentation(flip=True, padding=2)
    generator = torch.Generator().manual_seed(3)
    whole = augment(images, options, generator)
    for rows in (slice(0, 4), slice(4, 9), slice(8, 9)):
        again = torch.Generator().manual_seed(3)
        assert torch.equal(augment(images[rows], options, again, rows, of=9), whole[rows])
        assert torch.equal(again.get_state(), generator.get_state())


def test_on_cuda_batch_norm_is_torchs_shared_one_for_the_time_of_the_training() -> None:
    """With the same parameters and buffers; a class that derives from torch's keeps its own forward pass."""

    class Activated(nn.BatchNorm2d):
        """Of somebody else."""

    plain, derived = nn.BatchNorm2d(2), Activated(2)
    net = nn.Sequential(plain, nn.Sequential(derived, plain))
    with shared_batch_norm(net, torch.device("cuda")):
        assert isinstance(net[0], nn.SyncBatchNorm)
        assert net[0] is net[1][1]
        assert net[0].weight is plain.weight
        assert net[0].running_mean is plain.running_mean
        assert net[1][0] is derived
    assert net[0] is net[1][1] is plain
    with shared_batch_norm(net, torch.device("cpu")):
        assert net[0] is plain


@pytest.mark.slow
def test_one_process_imports_no_accelerate() -> None:
    program = (
        "import sys\n"
        "from polyadic.training import several_processes\n"
        "assert not several_processes()\n"
        "assert 'accelerate' not in sys.modules\n"
    )
    variables = {name: value for name, value in environment().items() if name != "WORLD_SIZE"}
    ran = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def started(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """The variables of a launcher that has started two processes, of which this is one."""
    usual = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {**usual, **variables}.items():
        monkeypatch.setenv(name, value)


def test_without_accelerate_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert several_processes()
    with pytest.raises(PolyadicError, match=r"pip install 'polyadic\[distributed\]'"):
        connect_processes()


def test_a_launcher_that_says_half_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    monkeypatch.delenv("RANK")
    with pytest.raises(PolyadicError, match=r"WORLD_SIZE=2 .* RANK is not set"):
        connect_processes()


@needs_accelerate
def test_each_process_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, LOCAL_RANK="2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(PolyadicError, match=r"process 2 \(from 0\) .* 2 CUDA devices"):
        connect_processes()


@pytest.mark.parametrize(
    ("rank", "error", "waits"),
    [
        ("0", PolyadicError("a file is missing"), 0.0),
        ("1", PolyadicError("a file is missing"), 10.0),
        ("0", RuntimeError("connection closed by peer"), 10.0),
        ("1", RuntimeError("connection closed by peer"), 20.0),
    ],
)
def test_the_main_process_speaks_first(
    monkeypatch: pytest.MonkeyPatch, rank: str, error: Exception, waits: float
) -> None:
    """The launcher ends the others while they wait."""
    waited: list[float] = []
    started(monkeypatch, RANK=rank)
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(type(error)), one_voice():
        raise error
    assert waited == [waits]


@pytest.mark.parametrize(("rank", "said"), [("0", True), ("1", False)])
@pytest.mark.parametrize("command", ["inspect", "compress"])
def test_other_commands_are_refused_to_several_processes(command: str, rank: str, said: bool) -> None:
    """One of them names the two ways."""
    result = CliRunner().invoke(app, [command], env={"WORLD_SIZE": "2", "RANK": rank})
    assert result.exit_code == 1
    for way in (f"each run {command}", "search --storage", "accelerate launch -m polyadic finetune"):
        assert (way in result.stderr) is said
