"""Images in ``.npz`` files: PREFIX_train*.npz and PREFIX_test*.npz, each with ``x`` and ``y``."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyadic.data.arrays import Split, array_images, classes_of, joined
from polyadic.data.digest import file_sha256
from polyadic.errors import DataError

Array = NDArray[Any]


def load_npz(prefix: str) -> Split:
    """Load PREFIX_train*.npz and PREFIX_test*.npz: ``x`` uint8 (N, H, W, C) or (N, H, W), ``y`` whole numbers (N,).

    Several files of one set are joined in the order of their names; there are max train label + 1 classes. Raises
    DataError when files are missing or broken, hold pickled objects, or hold something else.
    """
    digests: dict[str, str] = {}
    sets = {}
    for role in ("train", "test"):
        pattern = f"{prefix}_{role}*.npz"
        paths = [Path(found) for found in sorted(glob.glob(f"{glob.escape(prefix)}_{role}*.npz"))]
        if not paths:
            raise DataError(f"'npz:{prefix}' needs files {pattern}; none was found: check the prefix and the folder")
        x, y = joined([_read(path) for path in paths], pattern)
        sets[role] = array_images(x, y, pattern)
        digests |= {path.name: file_sha256(path) for path in paths}
    return Split(Path(prefix).name, sets["train"], sets["test"], classes_of(sets["train"]), digests)


def _read(path: Path) -> tuple[Array, Array]:
    content: dict[str, Array] = {}
    try:
        # Opened here, because numpy leaves a damaged archive open when it opens it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.keys())
            content = {name: np.asarray(archive[name]) for name in ("x", "y") if name in names}
    # Damaged archives raise errors of zipfile, zlib, struct and numpy alike; to the user all of them mean this.
    except Exception as error:
        raise DataError(
            f"'{path}' must be a whole .npz file of plain numbers; numpy says: {type(error).__name__}: {error}. Write "
            "it again with numpy.savez(path, x=..., y=...)"
        ) from error
    if len(content) < 2:
        raise DataError(f"'{path}' must hold the arrays x and y; it holds {', '.join(names) or 'nothing'}: rename them")
    return content["x"], content["y"]
