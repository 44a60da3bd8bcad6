"""Labelled images from one line of text, as it stands on a command line or in a recipe."""

from __future__ import annotations

import glob
import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyadic.data.arrays import Split, array_images, array_sha256, classes_of, file_sha256, joined
from polyadic.data.cifar10 import load_cifar10
from polyadic.data.imagefolder import load_imagefolder
from polyadic.data.images import IMAGENET_MEAN, IMAGENET_STD, ImageData
from polyadic.data.sample_files import names_samples
from polyadic.data.stratified import default_held_out, stratified_split
from polyadic.errors import DataError, install_hint
from polyadic.factory import call_factory
from polyadic.storage import inflates_to

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# 1 channel: the ImageNet constants describe colours; 0.5 and 0.5 bring grey pixels to -1..1 without looking at them.
_MEANS = {1: (0.5,), 3: IMAGENET_MEAN}
_STDS = {1: (0.5,), 3: IMAGENET_STD}

# scikit-learn's digits have no official split: this seed fixes one for good, whatever is held out later.
_DIGITS_TEST_SHARE, _DIGITS_TEST_SEED = 0.25, 0
_DIGITS_FULL = 16  # a pixel counts the dots that are set in a 4 x 4 cell

Array = NDArray[Any]


def load_data(
    text: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    held_out: int | None = None,
    seed: int = 0,
    image_size: int = 224,
) -> ImageData:
    """Load the images that ``text`` names and hold a seeded, class-stratified part of the training images out.

    ``text`` is one of::

        digits                   scikit-learn's digits, 1 x 8 x 8, a fixed quarter for test (extra: digits)
        npz:PREFIX               PREFIX_train*.npz and PREFIX_test*.npz with x uint8 (N, H, W, C) or (N, H, W), y (N,)
        cifar10:DIR              CIFAR-10 as published for Python (data_batch_1 ... test_batch)
        imagefolder:DIR          DIR/train/<class>/* and DIR/test/<class>/* (or DIR/val), decoded on demand
        package.module:factory   a function without arguments that returns ImageData or the arrays (x_train, y_train,
                                 x_test, y_test), which are as in npz
        path/file.py:factory     the same in a file of its own

    ``mean`` and ``std`` are those the network was trained with, one per channel, of pixels in 0..1; by default the
    ImageNet constants for 3 channels and 0.5, 0.5 for 1 channel. ``held_out`` is the number of training images held
    out: by default 10 % (at most 5000), or 20 % when there are under 5000; ``seed`` draws them. A factory that returns
    ImageData has held out already: ``held_out`` may not be given and ``seed`` has no effect. ``image_size`` is the side
    of the crops of ``imagefolder``, in pixels, and has no effect elsewhere. Raises DataError for data that cannot be
    used.
    """
    if names_samples(text):
        raise DataError(
            f"images with labels are asked for, and '{text}' names samples without: give digits, npz:PREFIX, "
            "cifar10:DIR, imagefolder:DIR or a factory of them"
        )
    return _held_out(_source(text, image_size), text, mean=mean, std=std, held_out=held_out, seed=seed)


def images_of(
    made: object,
    text: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    held_out: int | None = None,
    seed: int = 0,
) -> ImageData:
    """The same of what a factory named ``text`` has returned: ImageData, or the four arrays."""
    return _held_out(_from_object(made, text), text, mean=mean, std=std, held_out=held_out, seed=seed)


def _held_out(
    source: Split | ImageData,
    text: str,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    held_out: int | None,
    seed: int,
) -> ImageData:
    if isinstance(source, ImageData):
        if held_out is not None:
            raise DataError(
                f"'{text}' returns ImageData, which holds {len(source.held_out)} images out already; got "
                f"held_out={held_out}: leave held_out out, or return the four arrays"
            )
        constants = (source.mean if mean is None else _floats(mean), source.std if std is None else _floats(std))
        return replace(source, mean=constants[0], std=constants[1])
    labels = source.train.labels
    rest, part = stratified_split(labels, default_held_out(len(labels)) if held_out is None else held_out, seed)
    channels = source.train.image_shape[0]
    return ImageData(
        name=source.name,
        train=source.train.take(rest),
        held_out=source.train.take(part),
        test=source.test,
        classes=source.classes,
        mean=_constants("mean", mean, _MEANS, channels),
        std=_constants("std", std, _STDS, channels),
        digests=source.digests,
    )


def _source(text: str, image_size: int) -> Split | ImageData:
    origin, _, place = text.partition(":")
    if text == "digits":
        return load_digits()
    if not origin or not place:
        raise DataError(
            "data are written digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR, package.module:factory or "
            f"file.py:factory; got '{text}'"
        )
    if origin == "npz":
        return load_npz(place)
    if origin == "cifar10":
        return load_cifar10(Path(place))
    if origin == "imagefolder":
        return load_imagefolder(Path(place), image_size)
    return _from_object(call_factory(text, "data", DataError), text)


def _from_object(made: object, text: str) -> Split | ImageData:
    if isinstance(made, ImageData):
        return made
    if not isinstance(made, tuple) or len(made) != len(_ARRAYS):
        came = f"a tuple of {len(made)}" if isinstance(made, tuple) else f"a {type(made).__name__}"
        raise DataError(f"'{text}' must return ImageData or the tuple ({', '.join(_ARRAYS)}); it returned {came}")
    arrays = {name: np.asarray(value) for name, value in zip(_ARRAYS, made, strict=True)}
    train = array_images(arrays["x_train"], arrays["y_train"], f"x_train, y_train of '{text}'")
    test = array_images(arrays["x_test"], arrays["y_test"], f"x_test, y_test of '{text}'")
    digests = {name: array_sha256(array) for name, array in arrays.items()}
    return Split(text, train, test, classes_of(train), digests)


def _constants(
    what: str, given: Sequence[float] | None, defaults: dict[int, tuple[float, ...]], channels: int
) -> tuple[float, ...]:
    if given is not None:
        return _floats(given)
    if channels not in defaults:
        raise DataError(f"images of {channels} channels have no usual {what}: give {what} with {channels} numbers")
    return defaults[channels]


def _floats(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)


def load_digits() -> Split:
    """Load scikit-learn's digits with pixels scaled from 0..16 to 0..255.

    The same 25 % of each class are always the test images. Raises DataError when scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise DataError(
            f"'digits' needs scikit-learn, which cannot be imported ({error}): {install_hint('digits')}"
        ) from error
    bunch = datasets.load_digits()
    x = np.rint(np.asarray(bunch.images) * (255 / _DIGITS_FULL)).astype(np.uint8)
    y = np.asarray(bunch.target)
    everything = array_images(x, y, "scikit-learn's digits")
    train, test = stratified_split(everything.labels, round(len(y) * _DIGITS_TEST_SHARE), _DIGITS_TEST_SEED)
    digests = {"images": array_sha256(x), "labels": array_sha256(y.astype(np.int64))}
    return Split("digits", everything.take(train), everything.take(test), 10, digests)


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
        x, y = joined([_read_npz(path) for path in paths], pattern)
        sets[role] = array_images(x, y, pattern)
        digests |= {path.name: file_sha256(path) for path in paths}
    return Split(Path(prefix).name, sets["train"], sets["test"], classes_of(sets["train"]), digests)


def _read_npz(path: Path) -> tuple[Array, Array]:
    content: dict[str, Array] = {}
    bomb = inflates_to(path)
    if bomb is not None:
        raise DataError(f"'{path}' is no set of images ({bomb}): do not trust this file")
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
