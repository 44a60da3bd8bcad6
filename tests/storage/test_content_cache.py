from __future__ import annotations

from pathlib import Path

import pytest

from disks import files_in
from polyadic.errors import StorageError
from polyadic.storage import ContentCache, cache_directory, content_key


def cache_in(directory: Path | None) -> ContentCache[int]:
    return ContentCache(directory, ".txt", read=lambda path: int(path.read_text()), encode=lambda n: str(n).encode())


def test_a_result_is_computed_once_and_a_damaged_file_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    computed: list[int] = []

    def compute() -> int:
        computed.append(len(computed))
        return 42

    for damage in (None, None, "no number"):
        if damage is not None:
            (tmp_path / "cache" / "key.txt").write_text(damage)
        assert cache_in(tmp_path / "cache").get_or_compute("key", compute) == 42
    assert len(computed) == 2
    assert "ignored the damaged cache file" in caplog.text
    assert files_in(tmp_path) == {"cache/key.txt"}
    assert cache_in(None).get_or_compute("key", compute) == 42
    assert len(computed) == 3


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="check the path"):
        cache_in(tmp_path / "file" / "cache").get_or_compute("key", lambda: 1)


def test_keys_differ_where_anything_does() -> None:
    keys = [content_key(("a", 1)), content_key(("a", 2)), content_key(("a", 1), b"x"), content_key(("a", 1), b"y")]
    assert len(set(keys)) == 4


def test_the_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory("factors") == tmp_path / "polyadic" / "factors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory("latency") == tmp_path / "home" / ".cache" / "polyadic" / "latency"
