"""The handwritten digits that come with scikit-learn: 1797 grey images of 8 x 8 pixels, nothing to download."""

from __future__ import annotations

import importlib

import numpy as np

from polyadic.data.arrays import Split, array_images
from polyadic.data.digest import array_sha256
from polyadic.data.stratified import stratified_split
from polyadic.errors import DataError

_CLASSES = 10
_TEST_SHARE = 0.25
# The set has no official split: this seed fixes one for good, whatever is held out later.
_TEST_SEED = 0
# Pixels count the dots that are set in a 4 x 4 cell: 0..16.
_FULL = 16


def load_digits() -> Split:
    """Load scikit-learn's digits with pixels scaled from 0..16 to 0..255.

    The same 25 % of each class are always the test images. Raises DataError when scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise DataError(
            f"'digits' needs scikit-learn, which cannot be imported ({error}): pip install polyadic[digits]"
        ) from error
    bunch = datasets.load_digits()
    x = np.rint(np.asarray(bunch.images) * (255 / _FULL)).astype(np.uint8)
    y = np.asarray(bunch.target)
    everything = array_images(x, y, "scikit-learn's digits")
    train, test = stratified_split(everything.labels, round(len(y) * _TEST_SHARE), _TEST_SEED)
    digests = {"images": array_sha256(x), "labels": array_sha256(y.astype(np.int64))}
    return Split("digits", everything.take(train), everything.take(test), _CLASSES, digests)
