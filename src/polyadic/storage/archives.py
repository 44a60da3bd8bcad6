"""Zip archives (``.npz``, torch's checkpoints) that would fill the memory: refused before anything is inflated."""

from __future__ import annotations

import zipfile
from pathlib import Path

LARGE_BYTES = 256 * 2**20
"""What an archive may hold, however well it is packed."""

_PACKED = 100  # times smaller; deflate reaches 1032 on zeros, images and weights a few times


def inflates_to(path: Path) -> str | None:
    """Why an archive is one that is made to fill the memory, in half a sentence; None if it is not.

    It may take :data:`LARGE_BYTES`, and beyond these 100 times the size of its file: an entry that says less than it
    holds is cut off there by ``zipfile`` and torch. A file that is no archive is none of this function's business.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            held = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # whatever zipfile raises of damage: the reader that comes next says it in its own words
        return None
    size = path.stat().st_size
    if held <= max(LARGE_BYTES, _PACKED * size):
        return None
    return f"its {size:,} bytes inflate to {held:,}, more than {_PACKED} times as many"
