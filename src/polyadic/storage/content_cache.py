"""A folder of results under a digest of everything that decides them: what was computed once is read again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from polyadic.storage.files import atomic_path

_log = logging.getLogger(__name__)

Content = TypeVar("Content")


def cache_directory(name: str) -> Path:
    """``polyadic/NAME`` in the user's cache directory: ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyadic" / name


def content_key(decides: object, *contents: bytes) -> str:
    """The SHA-256, in hexadecimal, of the ``repr`` of what decides a result, and of raw contents that do so too."""
    digest = hashlib.sha256(repr(decides).encode())
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


class ContentCache(Generic[Content]):
    """Results in ``directory``, one file each.

    Files are written whole and renamed, so several processes may share a folder. A damaged file is computed again.
    """

    def __init__(
        self,
        directory: Path | None,
        suffix: str,
        *,
        read: Callable[[Path], Content],
        encode: Callable[[Content], bytes],
    ) -> None:
        """Keep files named ``KEY + suffix``; where ``directory`` is None nothing is kept.

        Args:
            directory: made when the first result is written.
            suffix: of the files, with its dot.
            read: a file back into a result; any error says that the file is damaged.
            encode: a result into the content of its file.
        """
        self.directory, self._suffix, self._read, self._encode = directory, suffix, read, encode

    def get_or_compute(self, key: str, compute: Callable[[], Content]) -> Content:
        """The result under ``key``, from disk if it was computed before.

        Raises:
            StorageError: the result could not be written.
        """
        if self.directory is None:
            return compute()
        path = self.directory / (key + self._suffix)
        if path.exists():
            try:
                return self._read(path)
            except Exception as error:  # whatever is wrong with the file, the result can be computed again
                _log.warning("ignored the damaged cache file %s: %s", path, error)
        result = compute()
        with atomic_path(path) as temporary:
            temporary.write_bytes(self._encode(result))
        return result
