from __future__ import annotations

from pathlib import Path

import pytest

from disks import files_in
from polyadic.errors import StorageError
from polyadic.storage import ContentCache, cache_directory, content_key


def number_in(path: Path) -> int:
    return int(path.read_text())


def test_a_result_is_found_again_and_a_damaged_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ContentCache(tmp_path / "cache", ".txt")
    assert cache.find("key", number_in) is None
    cache.keep("key", b"42")
    assert ContentCache(tmp_path / "cache", ".txt").find("key", number_in) == 42
    assert cache.find("other", number_in) is None
    assert caplog.text == ""
    (tmp_path / "cache" / "key.txt").write_text("no number")
    assert cache.find("key", number_in) is None
    assert "ignored the damaged cache file" in caplog.text
    assert files_in(tmp_path) == {"cache/key.txt"}


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="check the path"):
        ContentCache(tmp_path / "file" / "cache", ".txt").keep("key", b"1")


def test_keys_differ_where_anything_does() -> None:
    keys = [content_key(("a", 1)), content_key(("a", 2)), content_key(("a", 1), b"x"), content_key(("a", 1), b"y")]
    assert len(set(keys)) == 4


def test_the_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory("factors") == tmp_path / "polyadic" / "factors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory("latency") == tmp_path / "home" / ".cache" / "polyadic" / "latency"
