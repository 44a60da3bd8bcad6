from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from polyadic.data import IMAGENET_MEAN, IMAGENET_STD, load_data
from polyadic.errors import DataError

FACTORY = """
import numpy as np
import torch
from polyadic.data import ArrayImages, ImageData
from polyadic.errors import DataError

def arrays():
    x = np.arange(20 * 12, dtype=np.uint8).reshape(20, 2, 2, 3)
    y = np.arange(20) % 4
    return x, y, x[:4], y[:4]

def ready():
    images = ArrayImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]))
    return ImageData("mine", images, images, images, 2, (0.25,), (0.5,), {})

def three():
    return arrays()[:3]

def number():
    return 3

def broken():
    return {}["x"]

def refuses():
    raise DataError("this set has a licence: accept it")

def unequal():
    x, y, _, _ = arrays()
    return x, y[1:], x, y

value = 5
"""


@pytest.fixture
def factory_file(tmp_path: Path) -> Path:
    path = tmp_path / "images_of_mine.py"
    path.write_text(FACTORY)
    return path


def test_digits_have_a_fixed_test_set_whatever_the_seed() -> None:
    data, other = load_data("digits", seed=0), load_data("digits", seed=1)
    assert (len(data.train), len(data.held_out), len(data.test)) == (1079, 269, 449)
    assert (data.classes, data.image_shape, data.mean, data.std) == (10, (1, 8, 8), (0.5,), (0.5,))
    index = torch.arange(449)
    assert torch.equal(data.test.images(index), other.test.images(index))
    assert data.digests == other.digests
    assert not torch.equal(data.held_out.labels, other.held_out.labels)


def test_digits_are_scaled_to_the_full_range() -> None:
    data = load_data("digits")
    pixels = data.train.images(torch.arange(len(data.train)))
    # 17 grey levels k * 255 / 16, rounded.
    assert sorted(set(pixels.flatten().tolist())) == [round(level * 255 / 16) for level in range(17)]


def test_the_extra_is_named_when_scikit_learn_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'polyadic\[digits\]'"):
        load_data("digits")


def test_same_seed_same_data(factory_file: Path) -> None:
    first, again = (load_data(f"{factory_file}:arrays", seed=3) for _ in range(2))
    for one, two in ((first.train, again.train), (first.held_out, again.held_out)):
        index = torch.arange(len(one))
        assert torch.equal(one.images(index), two.images(index))
    assert first.digests == again.digests
    assert set(first.digests) == {"x_train", "y_train", "x_test", "y_test"}


def test_arrays_of_a_factory_are_split(factory_file: Path) -> None:
    data = load_data(f"{factory_file}:arrays", held_out=4)
    assert (len(data.train), len(data.held_out), len(data.test), data.classes) == (16, 4, 4, 4)
    assert data.held_out.labels.sort().values.tolist() == [0, 1, 2, 3]
    assert (data.mean, data.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert data.test.images(torch.tensor([0]))[0, :, 0, 0].tolist() == [0, 1, 2]


def test_image_data_of_a_factory_is_kept(factory_file: Path) -> None:
    data = load_data(f"{factory_file}:ready")
    assert (data.name, data.mean, data.std) == ("mine", (0.25,), (0.5,))
    changed = load_data(f"{factory_file}:ready", mean=[0.5])
    assert (changed.mean, changed.std) == ((0.5,), (0.5,))
    with pytest.raises(DataError, match="holds 3 images out already; got held_out=1"):
        load_data(f"{factory_file}:ready", held_out=1)


def test_a_factory_of_the_working_directory(factory_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory_file.rename(factory_file.with_name("polyadic_test_images.py"))
    monkeypatch.chdir(factory_file.parent)
    assert load_data("polyadic_test_images:arrays").classes == 4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("three", "it returned a tuple of 3"),
        ("number", "it returned a int"),
        ("broken", "raised KeyError: 'x'"),
        ("refuses", "^this set has a licence: accept it$"),
        ("unequal", r"x_train, y_train of .* labels \(19,\)"),
        ("value", "must define the data factory 'value'"),
        ("absent", "must define the data factory 'absent'"),
    ],
)
def test_a_factory_that_gives_no_data_is_told(factory_file: Path, name: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_data(f"{factory_file}:{name}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "data are written"),
        ("cifar10", "data are written"),
        ("npz:", "data are written"),
        (":build", "data are written"),
        ("cifar10:/nowhere", "data_batch_1"),
        ("imagefolder:/nowhere", "needs the folders"),
        ("npz:/nowhere/at_all", r"/nowhere/at_all_train\*\.npz; none was found"),
        ("missing_package_of_images:build", "is not .ModuleNotFoundError"),
        ("missing.py:build", "there is none at 'missing.py'"),
    ],
)
def test_a_text_that_names_no_data_is_told(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_data(text)


def test_constants_of_another_channel_count_are_told(factory_file: Path) -> None:
    with pytest.raises(DataError, match="mean has one number per channel; got 1 for the 3"):
        load_data(f"{factory_file}:arrays", mean=[0.5])
    with pytest.raises(DataError, match="std has one number per channel; got 3 for the 1"):
        load_data("digits", std=IMAGENET_STD)


def test_everything_cannot_be_held_out(factory_file: Path) -> None:
    for size in (0, 20):
        with pytest.raises(DataError, match=rf"1\.\.19 of the 20 images; got {size}"):
            load_data(f"{factory_file}:arrays", held_out=size)
