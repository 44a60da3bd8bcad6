"""The CIFAR-10 batches as published ("python version"), which are pickles and are read without running any code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyadic.data.arrays import Split, array_images, file_sha256, joined
from polyadic.errors import DataError

Array = NDArray[Any]

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_CLASSES = 10
# 3 channel planes (red, green, blue) of 32 x 32 pixels, row by row.
_PLANES = (3, 32, 32)


def load_cifar10(folder: Path) -> Split:
    """Load data_batch_1 .. data_batch_5 and test_batch from ``folder`` or its subfolder cifar-10-batches-py.

    Raises DataError when a batch is missing, damaged, refers to anything but plain numpy arrays, or holds other shapes.
    """
    nested = folder / "cifar-10-batches-py"
    place = nested if nested.is_dir() else folder
    missing = [name for name in (*_TRAIN, *_TEST) if not (place / name).is_file()]
    if missing:
        raise DataError(
            f"'cifar10:{folder}' needs the files {', '.join((*_TRAIN, *_TEST))}; {', '.join(missing)} not found in "
            f"'{place}': unpack cifar-10-python.tar.gz there"
        )
    train = joined([_read(place / name) for name in _TRAIN], str(place))
    test = joined([_read(place / name) for name in _TEST], str(place))
    digests = {name: file_sha256(place / name) for name in (*_TRAIN, *_TEST)}
    where = f"in '{place}'"
    return Split(
        "cifar10",
        array_images(*train, f"the training batches {where}"),
        array_images(*test, f"test_batch {where}"),
        _CLASSES,
        digests,
    )


def _read(path: Path) -> tuple[Array, Array]:
    try:
        # The batches were written by Python 2: encoding="bytes" keeps its strings, and so the pixels, as they are.
        batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"'{path}' {error}") from error
    # A damaged pickle can raise nearly anything, and all of it means the same to the user.
    except Exception as error:
        raise DataError(
            f"'{path}' must be a whole CIFAR-10 batch; reading it failed with {type(error).__name__}: {error}. Unpack "
            "cifar-10-python.tar.gz again"
        ) from error
    if not isinstance(batch, dict):
        raise DataError(
            f"'{path}' must hold a dict; it holds a {type(batch).__name__}: unpack cifar-10-python.tar.gz again"
        )
    data = batch.get(b"data", batch.get("data"))
    labels = batch.get(b"labels", batch.get("labels"))
    length = int(np.prod(_PLANES))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != length or not _is_whole(labels):
        came = f"{data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(
            f"a CIFAR-10 batch holds 'data' (N, {length}) and 'labels', a list of int; '{path}' holds {came} and "
            f"{type(labels).__name__}: unpack cifar-10-python.tar.gz again"
        )
    return data.reshape(-1, *_PLANES).transpose(0, 2, 3, 1), np.asarray(labels)


def _is_whole(labels: object) -> bool:
    return isinstance(labels, list) and all(isinstance(label, int) for label in labels)


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes into old pickle protocols."""
    if encoding != "latin1":
        raise DataError(f"may use the encoding latin1 only; it asks for {encoding!r}: do not trust this file")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy's array reconstruction and nothing else, so no code of the file can run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object for one of the few allowed names; raises DataError for every other."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise DataError(f"may hold plain arrays only; it refers to {module}.{name}: do not trust this file")


def _empty_array(kind: type[Array], shape: tuple[int, ...], code: bytes) -> Array:
    """Stand in for numpy's _reconstruct: an empty uint8 array, which the pickle then fills through __setstate__."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise DataError(f"may rebuild plain arrays only; it asks for {kind!r} of shape {shape}: do not trust this file")
    return np.empty(0, dtype=np.uint8)
