from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyadic.data import load_data
from polyadic.data.imagefolder import FolderImages
from polyadic.errors import DataError

# Colour of every class, in the order of the sorted folder names.
COLOURS = {"ant": (255, 0, 0), "bee": (0, 255, 0), "cat": (0, 0, 255)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role, count in (("train", 10), ("test", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / role / name).mkdir(parents=True)
            for at in range(count):
                Image.new("RGB", (20 + at, 30), colour).save(tmp_path / role / name / f"{at}.png")
    return tmp_path


def test_classes_are_the_sorted_folder_names(folder: Path) -> None:
    data = load_data(f"imagefolder:{folder}", image_size=16)
    assert (len(data.train), len(data.held_out), len(data.test), data.classes) == (24, 6, 6, 3)
    assert data.image_shape == (3, 16, 16)
    assert data.name == folder.name
    for images in (data.train, data.held_out, data.test):
        pixels = images.images(torch.arange(len(images)))
        assert pixels.shape == (len(images), 3, 16, 16)
        assert torch.equal(pixels[:, :, 8, 8].argmax(1), images.labels)


def test_val_stands_in_for_test(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load_data(f"imagefolder:{folder}", image_size=16).test) == 6


def test_shorter_side_is_scaled_and_the_middle_cropped(tmp_path: Path) -> None:
    # A ramp along the longer side: 448 pixels scaled by 256 / 224 to 512, of which 144 .. 367 are kept.
    ramp = np.broadcast_to((np.arange(448) / 2)[None, :, None].astype(np.uint8), (224, 448, 3))
    Image.fromarray(ramp.copy()).save(tmp_path / "ramp.png")
    images = FolderImages([tmp_path / "ramp.png"], torch.tensor([0]), 224)
    pixels = images.images(torch.tensor([0]))[0]
    assert pixels.shape == (3, 224, 224)
    expected = (np.arange(144, 368) + 0.5) * 224 / 256 / 2
    assert np.abs(pixels[0, 100].numpy() - expected).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (7, 9)])
@pytest.mark.parametrize("crop", [1, 7, 32])
def test_any_image_gives_the_crop(tmp_path: Path, size: tuple[int, int], crop: int) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "a.bmp")
    pixels = FolderImages([tmp_path / "a.bmp"], torch.tensor([0]), crop).images(torch.tensor([0]))
    assert pixels.shape == (1, 3, crop, crop)
    assert pixels[0, :, -1, -1].tolist() == [9, 8, 7]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / "a.tif")
    pixels = FolderImages([tmp_path / "a.tif"], torch.tensor([0]), 4).images(torch.tensor([0]))
    assert set(pixels.flatten().tolist()) == {255}


def test_no_index_gives_no_images_and_a_set_can_be_sent_to_a_worker(folder: Path) -> None:
    data = load_data(f"imagefolder:{folder}", image_size=16)
    assert data.train.images(torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 16, 16)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.test.images(torch.arange(6)), data.test.images(torch.arange(6)))


def test_hidden_and_other_files_are_left_out(folder: Path) -> None:
    for name in ("notes.txt", ".hidden.png", ".DS_Store"):
        (folder / "train" / "ant" / name).write_text("no image")
    (folder / "train" / ".cache").mkdir()
    data = load_data(f"imagefolder:{folder}", image_size=16)
    assert len(data.train) + len(data.held_out) == 30


def test_digests_follow_names_and_sizes(folder: Path) -> None:
    before = load_data(f"imagefolder:{folder}", image_size=16).digests
    assert load_data(f"imagefolder:{folder}", image_size=16).digests == before
    (folder / "train" / "bee" / "0.png").rename(folder / "train" / "bee" / "zero.png")
    after = load_data(f"imagefolder:{folder}", image_size=16).digests
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"train (file names and sizes)"}


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_an_unreadable_image_is_told_by_path(folder: Path, kept: int) -> None:
    path = folder / "test" / "bee" / "1.png"
    path.write_bytes(path.read_bytes()[:kept])
    data = load_data(f"imagefolder:{folder}", image_size=16)
    with pytest.raises(DataError, match=r"every image must decode; '.*bee/1\.png' does not"):
        data.test.images(torch.arange(6))


def test_other_classes_in_test_are_told(folder: Path) -> None:
    (folder / "test" / "cat").rename(folder / "test" / "dog")
    with pytest.raises(DataError, match=r"only in '.*train': cat; only in '.*test': dog"):
        load_data(f"imagefolder:{folder}")


def test_a_class_without_images_is_told(folder: Path) -> None:
    for path in (folder / "train" / "bee").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"bee' holds none of \.bmp \.jpeg"):
        load_data(f"imagefolder:{folder}")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_folders_are_told(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"needs the folders .*train and .*test .or .*val"):
        load_data(f"imagefolder:{folder}")


def test_no_class_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="needs one folder per class"):
        load_data(f"imagefolder:{tmp_path}")


def test_image_size_is_at_least_one(folder: Path) -> None:
    with pytest.raises(DataError, match="image_size=0"):
        load_data(f"imagefolder:{folder}", image_size=0)


def test_pillow_is_named_when_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DataError, match=r"pip install 'polyadic\[images\]'"):
        load_data(f"imagefolder:{folder}")
