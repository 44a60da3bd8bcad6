from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyadic.data import load_data
from polyadic.errors import DataError

NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


def python2_batch(data: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """Write a batch opcode by opcode as Python 2's cPickle (protocol 2) wrote the published ones."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) * 2 + number(0) + b"tb"
    shape = number(data.shape[0]) + number(data.shape[1]) + b"\x86"
    pixels = b"T" + struct.pack("<i", data.size) + data.tobytes()
    array += b"(" + number(1) + shape + dtype + b"\x89" + pixels + b"tb"
    numbers = b"](" + b"".join(number(label) for label in labels) + b"e"
    return (
        b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"toy") + b"u."
    )


def batch(seed: int, count: int = 20) -> tuple[np.ndarray[Any, Any], list[int]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, [at % 10 for at in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(python2_batch(*batch(seed)))
    return tmp_path


def test_the_published_form_is_read(folder: Path) -> None:
    data = load_data(f"cifar10:{folder}")
    assert (len(data.train), len(data.held_out), len(data.test), data.classes) == (80, 20, 20, 10)
    pixels, labels = batch(5)
    # Each row holds the red, green and blue planes one after another.
    assert np.array_equal(data.test.images(torch.arange(20)).numpy(), pixels.reshape(20, 3, 32, 32))
    assert data.test.labels.tolist() == labels
    assert sorted(data.digests) == sorted(NAMES)


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_pickled_again_by_python_3_are_read(folder: Path, protocol: int) -> None:
    pixels, labels = batch(9)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=protocol))
    data = load_data(f"cifar10:{folder}")
    assert np.array_equal(data.test.images(torch.arange(20)).numpy(), pixels.reshape(20, 3, 32, 32))


def test_the_folder_of_the_archive_is_found(folder: Path) -> None:
    nested = folder / "cifar-10-batches-py"
    nested.mkdir()
    for name in NAMES:
        (folder / name).rename(nested / name)
    assert len(load_data(f"cifar10:{folder}").test) == 20


def test_missing_batches_are_told(folder: Path) -> None:
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"data_batch_1, .*; data_batch_3 not found in"):
        load_data(f"cifar10:{folder}")


class Calls:
    """Calls ``function`` when unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("function", [os.mkdir, eval, np.fromfile, np.zeros, getattr])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_but_arrays_is_unpickled(folder: Path, function: object, protocol: int) -> None:
    trap = folder / "trapped"
    content = {"data": Calls(function, str(trap)), "labels": [0]}
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=r"test_batch' may hold plain arrays only; it refers to .* do not trust"):
        load_data(f"cifar10:{folder}")
    assert not trap.exists()


def test_no_codec_but_latin1_is_used(folder: Path) -> None:
    (folder / "test_batch").write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.")
    with pytest.raises(DataError, match="latin1 only; it asks for 'hex'"):
        load_data(f"cifar10:{folder}")


@pytest.mark.parametrize("kept", [0, 1, 50, 300, 60_000, -1])
def test_truncated_batches_are_told(folder: Path, kept: int) -> None:
    path = folder / "data_batch_2"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="data_batch_2' must be a whole CIFAR-10 batch"):
        load_data(f"cifar10:{folder}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "holds a list"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, r"holds \(2, 3071\)"),
        ({"data": [0], "labels": [0]}, "holds list and list"),
        ({"labels": [0]}, "holds NoneType and list"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, "cat"]}, "a list of int"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, r"labels \(1,\)"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, "holds float32"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, r"0\.\.9 \(10 classes\); label 1 .* is 10"),
    ],
)
def test_other_content_is_told(folder: Path, content: object, told: str) -> None:
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(DataError, match=told):
        load_data(f"cifar10:{folder}")
