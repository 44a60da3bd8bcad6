"""A folder of results under a digest of everything that decides them: what was computed once is read again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

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


class ContentCache:
    """Results in a folder, one file each.

    Files are written whole and renamed, so several processes may share a folder.
    """

    def __init__(self, directory: Path, suffix: str) -> None:
        """Keep files named ``KEY + suffix`` in ``directory``, which is made when the first one is written."""
        self.directory, self._suffix = directory, suffix

    def find(self, key: str, read: Callable[[Path], Content]) -> Content | None:
        """The result under ``key``; None where there is none, or where ``read`` raises anything: it is damaged then."""
        path = self.directory / (key + self._suffix)
        if not path.exists():
            return None
        try:
            return read(path)
        except Exception as error:  # whatever is wrong with the file, the result can be computed again
            _log.warning("ignored the damaged cache file %s: %s", path, error)
            return None

    def keep(self, key: str, content: bytes) -> None:
        """Write the file of a result.

        Raises:
            StorageError: it could not be written.
        """
        with atomic_path(self.directory / (key + self._suffix)) as temporary:
            temporary.write_bytes(content)
