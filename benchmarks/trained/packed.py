"""Photographs as the packed files of the data folder hold them: JPEG or PNG bytes one after another."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def images_in(path: Path, key: str = "jpeg", offsets: str = "offsets") -> Iterator[Image.Image]:
    """Every image of a packed file, in its order."""
    with np.load(path, allow_pickle=False) as packed:
        yield from decoded(packed[key], packed[offsets])


def decoded(data: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Iterator[Image.Image]:
    """Image i is ``data[offsets[i]:offsets[i + 1]]``."""
    for begin, end in itertools.pairwise(offsets):
        yield Image.open(io.BytesIO(data[begin:end].tobytes()))


def photographs(folder: Path, count: int) -> list[Image.Image]:
    """The first of the 1,000 photographs for calibration, 224 x 224."""
    return [image.convert("RGB") for _, image in zip(range(count), images_in(folder / TRAIN_PHOTOGRAPHS), strict=False)]


TRAIN_PHOTOGRAPHS = "imagenet_train_sample.npz"


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) in 0..255, float32."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
