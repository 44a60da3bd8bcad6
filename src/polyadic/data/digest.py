"""The sha256 of what the images came from, so that a report can say on what it was measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyadic.errors import DataError


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal; raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}): check the path and its permissions") from error


def array_sha256(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's dtype, shape and values (C order), in hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def listing_sha256(entries: list[tuple[str, int]]) -> str:
    """Return the sha256 of file names and sizes in bytes, in the order given; the contents are not read."""
    lines = "".join(f"{name}\0{size}\n" for name, size in entries)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
