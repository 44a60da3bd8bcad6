from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from disks import files_in, refuse_syncs, tiny_disk
from polyadic.errors import StorageError
from polyadic.storage import atomic_path, remove_partial, storage_error, write_together


def test_a_new_file_stands_in_folders_that_did_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.bin"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert files_in(tmp_path) == {"a/b/file.bin"}


def write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), OSError(errno.EIO, "input/output error")])
def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises((type(error), StorageError)):
        write_half(target, error)
    assert target.read_text() == "old"
    assert files_in(tmp_path) == {"file"}


def test_an_error_of_the_file_system_becomes_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/inside could not be .*: check the path"):
        write_together({tmp_path / "file" / "inside": b"x"})
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder could not be"):
        write_together({tmp_path / "folder": b"x"})
    assert files_in(tmp_path) == {"file"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_quota_are_told_apart_from_other_refusals(number: int) -> None:
    assert "free disk space" in str(storage_error(Path("x"), OSError(number, "full")))
    assert "permission" in str(storage_error(Path("x"), OSError(errno.EACCES, "Permission denied")))


def test_files_that_belong_together_appear_with_the_first_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        order.append(target.name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    contents = {tmp_path / name: name.encode() for name in ("result", "weights", "plan")}
    write_together(contents)
    assert order == ["plan", "weights", "result"]
    assert {path: path.read_bytes() for path in contents} == contents


@pytest.mark.parametrize("after", range(6))
def test_when_the_disk_fills_up_none_of_several_files_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    (tmp_path / "a").write_text("old")
    refuse_syncs(monkeypatch, after=after)
    contents = {tmp_path / name: name.encode() * 100 for name in "abc"}
    if after < 3:  # every file is synced once before the first is renamed
        with pytest.raises(StorageError, match="free disk space"):
            write_together(contents)
        assert files_in(tmp_path) == {"a"}
        assert (tmp_path / "a").read_text() == "old"
    else:
        with pytest.raises(StorageError, match="free disk space"):
            write_together(contents)
        assert not [name for name in files_in(tmp_path) if name.endswith(".partial")]
        assert (tmp_path / "a").read_text() == "old"  # the first one is the sign that all are there


def test_a_really_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        (disk / "result").write_text("old")
        with pytest.raises(StorageError, match="free disk space"):
            write_together({disk / "result": b"new", disk / "weights": bytes(40_000), disk / "card": bytes(40_000)})
        assert files_in(disk) == {"result"}
        assert (disk / "result").read_text() == "old"
        with pytest.raises(StorageError, match="free disk space"), atomic_path(disk / "big") as temporary:
            temporary.write_bytes(bytes(100_000))
        assert files_in(disk) == {"result"}
        write_together({disk / "result": b"new", disk / "weights": bytes(40_000)})
        assert files_in(disk) == {"result", "weights"}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (
        "model.safetensors",
        ".model.safetensors.k3j.partial",
        ".finetune.pt",
        "notes.partial",
        "sub/.a.partial",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    remove_partial(tmp_path / "absent")
    assert files_in(tmp_path) == {"model.safetensors", ".finetune.pt", "notes.partial", "sub/.a.partial"}


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_together({tmp_path / "file": b""})
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o644
