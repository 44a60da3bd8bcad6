"""One run at a time in a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from polyadic.errors import PolyadicError
from polyadic.storage.files import remove_partial, storage_error

try:
    import fcntl
except ImportError:  # Windows has no flock; what locks there keeps others from reading who holds it
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_CANNOT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What a file system says that knows no locks, as some network drives do."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Write to ``folder`` alone while the block runs; what a killed run left half written there is removed first.

    The lock is one of the operating system's (``flock``) on the file ``.lock`` in the folder, and ends with the process
    that holds it: a run that was killed leaves a file, and no lock. At the end of the block the file is removed, and
    with it the folder if it was made for the lock and nothing was written to it. On Windows, and on file systems that
    know no such lock, nothing is locked.

    Args:
        folder: made for the file, if it is not there.

    Raises:
        PolyadicError: another process writes there.
        StorageError: the file system refused.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / LOCK
    try:
        handle = _lock(path) if fcntl is not None else None
    except OSError as error:
        _remove_empty(made)
        raise storage_error(path, error) from error
    try:
        if handle is not None:
            remove_partial(folder)
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):  # the folder may have gone, and the disk with it
                path.unlink()  # while it is locked: who opened it meanwhile sees that it is no longer there
            os.close(handle)
        _remove_empty(made)


def _lock(path: Path) -> int | None:
    """The open file that holds the lock; None where the file system knows no locks.

    Raises:
        PolyadicError: another process holds it.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)  # the programs that a run starts do not inherit it
        except FileNotFoundError:  # its last holder removed the folder this moment, which was made for it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                os.truncate(handle, 0)
                os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return handle
        except BlockingIOError as error:
            who = _holder(handle)
            os.close(handle)
            raise PolyadicError(
                f"one run at a time writes to a folder, and {who} writes to {path.parent}: wait until it has ended, "
                "or choose another folder"
            ) from error
        except OSError as error:
            os.close(handle)
            if error.errno not in _CANNOT:
                raise
            path.unlink(missing_ok=True)
            return None
        os.close(handle)  # its last holder removed it after we had opened it: try the one that is there now


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is the one that stands at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    """Who holds the lock, by what it has written into the file."""
    number, _, host = os.pread(handle, 300, 0).decode(errors="replace").strip().partition(" ")
    if not number:  # it has locked the file this moment
        return "another process"
    return f"process {number}" if host in ("", socket.gethostname()) else f"process {number} on {host}"


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of ``folders``, from the innermost on, that hold nothing."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
