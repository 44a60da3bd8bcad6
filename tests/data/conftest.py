"""Small images on disk, and the shared real ones; a test that asks for those is skipped where they are absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]

Arrays = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="session")
def shared_images() -> Path:
    folder = Path(os.environ.get("POLYADIC_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: '{folder}' does not exist (set POLYADIC_DATA)")
    return folder


@pytest.fixture
def arrays() -> Callable[..., Arrays]:
    """A function (count, shape, classes) -> uint8 images (count, *shape) and balanced labels."""

    def make(count: int, shape: tuple[int, ...] = (4, 5, 3), classes: int = 2, seed: int = 0) -> Arrays:
        random = np.random.default_rng(seed)
        return random.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes

    return make


@pytest.fixture
def npz_prefix(tmp_path: Path, arrays: Callable[..., Arrays]) -> str:
    """Two training files of 30 images and one test file of 10, of 3 classes."""
    for name, count, seed in (("train_0", 30, 0), ("train_1", 30, 1), ("test", 10, 2)):
        x, y = arrays(count, classes=3, seed=seed)
        np.savez(tmp_path / f"toy_{name}.npz", x=x, y=y)
    return str(tmp_path / "toy")
