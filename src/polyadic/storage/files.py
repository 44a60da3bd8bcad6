"""Files that are either whole or absent: written to a neighbour first, and then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from polyadic.errors import StorageError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of ``path``; rename it over ``path`` when the block ends, remove it when it fails.

    Raises:
        StorageError: the file system refused (disk full, no permission); ``path`` is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_partial(directory: Path) -> None:
    """Remove the temporary neighbours that a killed process left in ``directory``, where no other process writes.

    Raises:
        StorageError: the file system refused.
    """
    with storage_errors(directory):
        for stale in directory.glob(".*.partial"):
            stale.unlink(missing_ok=True)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Errors of the file system in the block become one sentence about ``path``.

    Raises:
        StorageError: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say in one sentence what the file system refused and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"writing {path} needs free disk space and there is none left: free some and run again with --resume"
        )
    return StorageError(
        f"{path} could not be read or written ({error.strerror or error}): check the path and its permissions"
    )


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files; none of them appears before all have reached the disk. The first one appears last.

    Raises:
        StorageError: the file system refused; what stood at those paths is as it was.
    """
    with contextlib.ExitStack() as stack:
        for path, content in contents.items():
            temporary = stack.enter_context(atomic_path(path))
            with storage_errors(path), temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a full disk speaks here at the latest, before anything is renamed
