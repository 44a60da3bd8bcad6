"""The CIFAR-10 batches as published ("python version"), which are pickles and are read without running any code."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
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
_LARGEST = 256 * 2**20  # bytes; a batch as published has 31 MB
_NUMBERS = ("u", "i", "f", "b")
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
    size = path.stat().st_size
    if size > _LARGEST:
        raise DataError(f"a CIFAR-10 batch has about 31 MB; '{path}' has {size:,} bytes: is it another file?")
    try:
        content = path.read_bytes()
        _check_opcodes(content)
        # The batches were written by Python 2: encoding="bytes" keeps its strings, and so the pixels, as they are.
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
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
    data = data.array if isinstance(data, _Pixels) else data
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


def _check_opcodes(content: bytes) -> None:
    """Refuse what makes a small pickle take much memory: texts that the file does not hold, far places in the memo.

    Python's unpickler makes room for as much as a length says, and for all places up to the one that is named.
    """
    for opcode, argument, at in pickletools.genops(content):  # raises ValueError of a text longer than the file
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(content):
            raise DataError(f"may remember as many objects as it has bytes; it names {argument:,} at byte {at}")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows stand-ins for arrays and nothing else, so that no code runs and no numpy is rebuilt."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for one of the few allowed names; raises DataError for every other."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Maker(_Pixels)
        if (module, name) == ("numpy", "ndarray"):
            return _Maker(None)
        if (module, name) == ("numpy", "dtype"):
            return _Maker(_Kind)
        if (module, name) == ("_codecs", "encode"):
            return _Maker(_latin1)
        raise DataError(f"may hold plain arrays only; it refers to {module}.{name}: do not trust this file")


class _Maker:
    """What a pickle may call. Nothing can be set on it: a pickle could change a function or a class that way."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any] | None) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> Any:
        if self._make is None:
            raise DataError("may rebuild plain arrays only; it calls numpy.ndarray: do not trust this file")
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DataError("may fill arrays only; it changes what makes them: do not trust this file")


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes into old pickle protocols."""
    if encoding != "latin1":
        raise DataError(f"may use the encoding latin1 only; it asks for {encoding!r}: do not trust this file")
    return text.encode("latin1")


class _Kind:
    """Stand in for numpy.dtype: a name such as u1, whose byte order comes with its state."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if code[:1] not in _NUMBERS or not code[1:].isdigit():
            raise DataError(f"may hold arrays of numbers only; it holds {code!r}: do not trust this file")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.dtype = np.dtype(f"{order}{self.dtype.str[1:]}")


class _Pixels:
    """Stand in for numpy's _reconstruct: an array that is made of the bytes that follow.

    numpy itself would believe a pickle that calls bytes pointers to objects.
    """

    def __init__(self, *_: object) -> None:
        self.array: Array = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise DataError("may hold arrays of numbers only; it fills one with something else: do not trust this file")
        flat = np.frombuffer(bytearray(content), dtype=kind.dtype)  # a copy, which may be written to
        self.array = flat.reshape(shape, order="F" if by_columns else "C")
