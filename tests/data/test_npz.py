from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polyadic.data import load_data
from polyadic.errors import DataError

Arrays = tuple[NDArray[Any], NDArray[Any]]


def test_files_are_joined_and_turned_to_channels_first(npz_prefix: str) -> None:
    data = load_data(f"npz:{npz_prefix}")
    assert (len(data.train), len(data.held_out), len(data.test)) == (48, 12, 10)
    assert (data.name, data.classes, data.image_shape) == ("toy", 3, (3, 4, 5))
    test = np.load(f"{npz_prefix}_test.npz")
    assert np.array_equal(data.test.images(torch.arange(10)).numpy(), test["x"].transpose(0, 3, 1, 2))
    assert data.test.labels.tolist() == test["y"].tolist()
    first = Path(f"{npz_prefix}_train_0.npz")
    assert set(data.digests) == {"toy_train_0.npz", "toy_train_1.npz", "toy_test.npz"}
    assert data.digests[first.name] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_train_and_held_out_are_disjoint_and_together_everything(npz_prefix: str) -> None:
    data = load_data(f"npz:{npz_prefix}", held_out=7, seed=5)
    seen = [images.images(torch.arange(len(images))).flatten(1) for images in (data.train, data.held_out)]
    files = [np.load(f"{npz_prefix}_train_{number}.npz")["x"] for number in (0, 1)]
    expected = np.concatenate(files).transpose(0, 3, 1, 2).reshape(60, -1)
    assert sorted(torch.cat(seen).tolist()) == sorted(expected.tolist())
    assert len(data.held_out) == 7


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_grey_images_get_one_channel_and_the_constants_of_grey(
    tmp_path: Path, arrays: Callable[..., Arrays], shape: tuple[int, ...]
) -> None:
    for role in ("train", "test"):
        x, y = arrays(10, shape)
        np.savez(tmp_path / f"grey_{role}.npz", x=x, y=y)
    data = load_data(f"npz:{tmp_path / 'grey'}")
    assert data.image_shape == (1, 4, 5)
    assert (data.mean, data.std) == ((0.5,), (0.5,))
    assert load_data(f"npz:{tmp_path / 'grey'}", mean=[0.1], std=[0.3]).mean == (0.1,)


def test_other_channel_counts_need_constants(tmp_path: Path, arrays: Callable[..., Arrays]) -> None:
    for role in ("train", "test"):
        x, y = arrays(10, (4, 5, 4))
        np.savez(tmp_path / f"four_{role}.npz", x=x, y=y)
    with pytest.raises(DataError, match="4 channels have no usual mean"):
        load_data(f"npz:{tmp_path / 'four'}")
    assert load_data(f"npz:{tmp_path / 'four'}", mean=[0.5] * 4, std=[0.5] * 4).image_shape == (4, 4, 5)


def test_a_prefix_is_no_pattern(tmp_path: Path, arrays: Callable[..., Arrays]) -> None:
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    x, y = arrays(10)
    np.savez(folder / "d_train.npz", x=x, y=y)
    np.savez(folder / "d_test.npz", x=x, y=y)
    assert len(load_data(f"npz:{folder / 'd'}").test) == 10


@pytest.mark.parametrize("role", ["train", "test"])
def test_missing_files_are_told_by_pattern(npz_prefix: str, role: str) -> None:
    for path in Path(npz_prefix).parent.glob(f"toy_{role}*"):
        path.unlink()
    with pytest.raises(DataError, match=rf"toy_{role}\*\.npz; none was found"):
        load_data(f"npz:{npz_prefix}")


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (np.zeros((6, 4, 5, 3), np.float32), np.zeros(6, int), "uint8, 0..255; .* holds float32"),
        (np.zeros((6, 3, 4, 5), np.uint8), np.zeros(6, int), r"channels come last.*\(6, 3, 4, 5\)"),
        (np.zeros((6, 4), np.uint8), np.zeros(6, int), r"axes \(N, H, W, C\).*\(6, 4\)"),
        (np.zeros((0, 4, 5, 3), np.uint8), np.zeros(0, int), "may not be empty"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.zeros(5, int), r"images \(6, 4, 5, 3\) and labels \(5,\)"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.zeros((6, 1), int), r"labels \(6, 1\)"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array([0, 1, 2, 1, 3, 0]), "label 4 of the test set of 'toy' is 3"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array([0, 1, -2, 1, 0, 0]), "label 2 of .* is -2"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array([0, 1.5, 2, 1, 0, 0]), r"label 1 of .* is 1\.5"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array([0, 1, 2, np.nan, 0, 0]), "label 3 of .* is nan"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array([np.inf, 1, 2, 1, 0, 0]), "label 0 of .* is inf"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.full(6, 2**64 - 1, np.uint64), "is 18446744073709551615"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.array(list("catdog")), r"holds <U1, first \['c'\]"),
        (np.zeros((6, 4, 5, 3), np.uint8), np.zeros(6, bool), r"holds bool, first \[False\]"),
        (
            np.zeros((6, 8, 5, 3), np.uint8),
            np.zeros(6, int),
            r"the test set has \(3, 8, 5\), the train set \(3, 4, 5\)",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_told(npz_prefix: str, x: NDArray[Any], y: NDArray[Any], told: str) -> None:
    np.savez(f"{npz_prefix}_test.npz", x=x, y=y)
    with pytest.raises(DataError, match=told):
        load_data(f"npz:{npz_prefix}")


def test_whole_numbers_may_be_stored_as_floats_or_few_bits(npz_prefix: str) -> None:
    x = np.zeros((3, 4, 5, 3), np.uint8)
    for y in (np.array([2.0, 0.0, 1.0]), np.array([2, 0, 1], np.uint8), np.array([2, 0, 1], np.int16)):
        np.savez(f"{npz_prefix}_test.npz", x=x, y=y)
        assert load_data(f"npz:{npz_prefix}").test.labels.tolist() == [2, 0, 1]


def test_training_files_of_two_shapes_are_told(npz_prefix: str) -> None:
    np.savez(f"{npz_prefix}_train_1.npz", x=np.zeros((6, 4, 4, 3), np.uint8), y=np.zeros(6, int))
    with pytest.raises(DataError, match=r"uint8 \(4, 5, 3\) and uint8 \(4, 4, 3\)"):
        load_data(f"npz:{npz_prefix}")


def test_other_names_are_told(npz_prefix: str) -> None:
    np.savez(f"{npz_prefix}_test.npz", images=np.zeros(3), y=np.zeros(3))
    with pytest.raises(DataError, match="must hold the arrays x and y; it holds images, y"):
        load_data(f"npz:{npz_prefix}")


class Touches:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_objects_are_never_loaded(npz_prefix: str, tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    np.savez(f"{npz_prefix}_test.npz", x=np.array([Touches(trap)], dtype=object), y=np.zeros(1))
    with pytest.raises(DataError, match=r"plain numbers.*Object arrays cannot be loaded"):
        load_data(f"npz:{npz_prefix}")
    assert not trap.exists()


@pytest.mark.parametrize("kept", [0, 3, 30, 400, 700, -1])
def test_truncated_files_are_told(npz_prefix: str, kept: int) -> None:
    path = Path(f"{npz_prefix}_test.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"toy_test\.npz' must be a whole \.npz file"):
        load_data(f"npz:{npz_prefix}")


def test_a_flipped_byte_is_told(npz_prefix: str) -> None:
    path = Path(f"{npz_prefix}_test.npz")
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        load_data(f"npz:{npz_prefix}")


@pytest.mark.parametrize(
    "garbage",
    [b"\x93NUMPY", b"not an archive", b"PK\x03\x04" + bytes(80), b"\x80\x04."],
    ids=["npy", "text", "zip", "pickle"],
)
def test_garbage_is_told(npz_prefix: str, garbage: bytes) -> None:
    Path(f"{npz_prefix}_test.npz").write_bytes(garbage)
    with pytest.raises(DataError, match=r"must be a whole \.npz file"):
        load_data(f"npz:{npz_prefix}")


def test_a_single_array_is_told(npz_prefix: str) -> None:
    with Path(f"{npz_prefix}_test.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"must be a whole \.npz file"):
        load_data(f"npz:{npz_prefix}")


def test_packed_files_of_the_shared_folder_are_told(shared_images: Path) -> None:
    if not (shared_images / "mnist_test.npz").is_file():
        pytest.skip("no packed MNIST in the shared folder")
    with pytest.raises(DataError, match=r"must hold the arrays x and y; it holds .*webp"):
        load_data(f"npz:{shared_images / 'mnist'}")
