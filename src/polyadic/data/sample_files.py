"""Unlabelled samples from one line of text: a folder of images, or arrays as a network takes them.

Arrays come as they are; images are cut and normalised. Nothing is unpickled.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyadic.data.image_files import THREADS, decode, image_paths, middle_of, pillow, suffixes
from polyadic.data.pixels import Pixels
from polyadic.errors import DataError
from polyadic.storage import inflates_to

ROWS = 16
"""Samples of a batch: of a few hundred, enough batches for the fine-tuning to take steps."""

_MODES = {1: "L", 3: "RGB"}

Batch = Tensor | dict[str, Tensor]


def names_samples(text: str) -> bool:
    """Whether ``text`` is samples:DIR, npy:FILE or npz:FILE; npz:PREFIX names images with labels."""
    origin, _, place = text.partition(":")
    if origin == "npz":
        return place.lower().endswith(".npz")
    return origin in ("samples", "npy")


def load_samples(text: str, pixels: Pixels | None = None) -> Iterable[Batch]:
    """The samples that ``text`` names, in batches of 16; they are read as they are asked for.

    ``text`` is one of::

        samples:DIR   all images below DIR, cut and normalised as ``pixels`` says (extra: images)
        npy:FILE      one array (N, ...) as numpy.save writes it: what the network takes
        npz:FILE      arrays (N, ...) by the names under which forward takes them, as numpy.savez(FILE, name=...) writes
                      them; one array alone is the input, whatever its name

    Floating-point numbers become float32 and whole ones int64. Raises DataError for what is missing, damaged or of
    another kind.
    """
    origin, _, place = text.partition(":")
    if not names_samples(text) or not place:
        raise DataError(f"samples in files are written samples:DIR, npy:FILE or npz:FILE; got '{text}'")
    if origin == "samples":
        return _of_folder(Path(place), pixels or Pixels())
    path = Path(place)
    if not path.is_file():
        raise DataError(f"'{text}' needs a file; there is none at '{path}': check the path")
    return _of_array(path) if origin == "npy" else _of_arrays(path)


def _of_folder(folder: Path, pixels: Pixels) -> Iterator[Tensor]:
    pillow()
    if not folder.is_dir():
        raise DataError(f"'samples:{folder}' needs a folder of images; there is none at '{folder}': check the path")
    paths = image_paths(folder)
    if not paths:
        raise DataError(f"'samples:{folder}' holds no images ({suffixes()}): check the path, or add some")
    random.Random(0).shuffle(paths)  # folders come class by class, and not all of them may be read
    return _read_images(paths, pixels)


def _read_images(paths: Sequence[Path], pixels: Pixels) -> Iterator[Tensor]:
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), ROWS):
            cut = pool.map(partial(_cut, pixels=pixels), paths[start : start + ROWS])
            yield pixels.normalise(np.stack(list(cut)))


def _cut(path: Path, pixels: Pixels) -> NDArray[np.uint8]:
    channels, height, width = pixels.size
    image = decode(path, _MODES[channels])
    if not pixels.resize and (image.height < height or image.width < width):
        raise DataError(
            f"without resizing, images are {height} x {width} pixels or larger; '{path}' is {image.height} x "
            f"{image.width}: give a smaller --input-shape or --input-size, remove it, or leave out --no-resize"
        )
    return middle_of(image, height, width, resize=pixels.resize)


def _of_array(path: Path) -> Iterator[Tensor]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damage raises errors of numpy and of the operating system alike
        raise DataError(_unreadable(path, error, "numpy.save(path, inputs)")) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"'{path}' holds several arrays: name it npz:{path}, which tells them apart by name")
    return _batches({"": array}, path)


def _of_arrays(path: Path) -> Iterator[Batch]:
    bomb = inflates_to(path)
    if bomb is not None:
        raise DataError(f"'{path}' holds no samples ({bomb}): do not trust this file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive}
    except Exception as error:  # damage raises errors of zipfile, zlib, struct and numpy alike
        raise DataError(_unreadable(path, error, "numpy.savez(path, name=inputs)")) from error
    if not arrays:
        raise DataError(f"'{path}' holds no arrays: write them with numpy.savez(path, name=inputs)")
    return _batches({"": next(iter(arrays.values()))} if len(arrays) == 1 else arrays, path)


def _unreadable(path: Path, error: Exception, how: str) -> str:
    told = next(iter(str(error).splitlines()), "")
    return f"'{path}' holds plain arrays; numpy says: {type(error).__name__}: {told}. Write it again with {how}"


def _batches(arrays: dict[str, NDArray[Any]], path: Path) -> Iterator[Any]:
    """Rows of all arrays, side by side.

    Raises:
        DataError: no numbers, no rows, pixels as they lie in files, or arrays of different lengths.
    """
    for name, array in arrays.items():
        what = f"'{path}'" if not name else f"{name} in '{path}'"
        if array.dtype.kind not in "fiub":
            raise DataError(f"samples are numbers; {what} holds {array.dtype}: write them as float32")
        if array.ndim < (1 if name else 2) or not array.size:
            raise DataError(f"samples are an array (N, ...); {what} has the shape {array.shape}: check how it is made")
        if array.dtype == np.uint8 and array.ndim > 2:
            raise DataError(
                f"samples are what the network takes, and not pixels in bytes; {what} holds {array.dtype} "
                f"{array.shape}: write them as float32 (N, C, H, W), normalised as in training, or give the images "
                "as samples:DIR"
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"arrays side by side have a row per sample; '{path}' holds {lengths}: make them alike")
    return _rows(arrays, next(iter(lengths.values())))


def _rows(arrays: dict[str, NDArray[Any]], count: int) -> Iterator[Any]:
    for start in range(0, count, ROWS):
        batch = {name: _tensor(array[start : start + ROWS]) for name, array in arrays.items()}
        yield batch.get("", batch)


def _tensor(rows: NDArray[Any]) -> Tensor:
    kind: Any = np.float32 if rows.dtype.kind == "f" else np.bool_ if rows.dtype.kind == "b" else np.int64
    return torch.from_numpy(np.array(rows, dtype=kind, order="C"))
