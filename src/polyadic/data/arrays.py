"""Plain arrays, as users hold them, into checked image sets, and the sha256 of what they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyadic.data.images import ArrayImages, ImageSet
from polyadic.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """What a source gives: training and test images before anything is held out, and the sha256 of each origin."""

    name: str
    train: ImageSet
    test: ImageSet
    classes: int
    digests: dict[str, str]


def array_images(x: Array, y: Array, where: str) -> ArrayImages:
    """Check images ``x`` uint8 (N, H, W, C) or (N, H, W) and labels ``y`` (N,), and turn them into a set.

    ``where`` names their origin. Raises DataError for no images, another dtype, channels in front, differing lengths
    and labels that are negative or no whole numbers.
    """
    if x.dtype != np.uint8:
        raise DataError(f"images are uint8, 0..255; {where} holds {x.dtype}: scale and convert them first")
    if x.ndim not in (3, 4):
        raise DataError(f"images have the axes (N, H, W, C) or (N, H, W); {where} holds {x.shape}: reshape them")
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        raise DataError(f"the channels come last, (N, H, W, C); {where} holds {x.shape}: use x.transpose(0, 2, 3, 1)")
    if x.size == 0:
        raise DataError(f"a set of images may not be empty; {where} holds {x.shape}: check how it was written")
    if y.ndim != 1 or len(y) != len(x):
        raise DataError(f"every image has one label; {where} holds images {x.shape} and labels {y.shape}")
    nhwc = x if x.ndim == 4 else x[..., np.newaxis]
    pixels = torch.from_numpy(np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2)))
    return ArrayImages(pixels, whole_labels(y, where))


def whole_labels(y: Array, where: str) -> Tensor:
    """Return labels ``y`` (N,) as int64 (N,); whole numbers in a float array are accepted.

    Raises DataError with the first label that is no whole number from 0 up.
    """
    if y.dtype.kind not in "iuf":
        raise DataError(
            f"labels are whole numbers from 0; {where} holds {y.dtype}, first {y[:1].tolist()}: number the classes "
            "0, 1, 2, ..."
        )
    # NaN and infinity fail a comparison; the upper bound keeps float64 and int64 exact.
    wrong = np.flatnonzero(~((y >= 0) & (y < 2**53) & (np.trunc(y) == y)))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"labels are whole numbers from 0; label {at} of {where} is {y[at].item()}: number the classes 0, 1, 2, ..."
        )
    return torch.from_numpy(y.astype(np.int64))


def joined(parts: Sequence[tuple[Array, Array]], where: str) -> tuple[Array, Array]:
    """Join the (images, labels) of several files along N.

    Raises DataError when their images differ in shape or dtype.
    """
    first = parts[0][0]
    for x, _ in parts:
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise DataError(
                f"all files of one set hold images of one shape; {where} holds {first.dtype} {first.shape[1:]} and "
                f"{x.dtype} {x.shape[1:]}: write them alike"
            )
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def classes_of(train: ImageSet) -> int:
    """Count the classes: the largest training label + 1."""
    return int(train.labels.max()) + 1


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
