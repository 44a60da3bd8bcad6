"""Images in folders, one folder per class: DIR/train/<class>/*.jpg and DIR/test (or DIR/val) likewise."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyadic.data.arrays import Split, listing_sha256
from polyadic.data.images import ImageSet, Shape
from polyadic.errors import DataError, install_hint

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Pillow decodes outside the interpreter lock; more threads than this only wait for the disk.
_THREADS = 4
# Those whose names end as above, and what cameras and browsers name so; Pillow would run Ghostscript on PostScript.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pixels take up to 8 bytes while they are decoded and converted. Four images of _LARGE pixels at a time are 512 MiB;
# larger ones are decoded one at a time, if their file is as large as that of a photograph, up to _MOST (512 MiB).
_LARGE, _MOST = 2**24, 2**26
_PIXELS_PER_BYTE = 64  # strongly compressed photographs have 40, a picture of one colour 200 (JPEG) to 8000 (PNG)
_one_at_a_time = threading.Lock()
# Evaluation on ImageNet: the shorter side becomes 256 pixels, of which the middle 224 are kept.
_RESIZE, _CROP = 256, 224


@final
class FolderImages(ImageSet):
    """RGB images decoded when asked for: shorter side to size * 256 / 224 pixels (bilinear), centre crop size x size.

    ``paths`` are the files, ``labels`` int64 (N,) their classes. Raises DataError when Pillow is not installed.
    """

    def __init__(self, paths: Sequence[Path], labels: Tensor, size: int) -> None:
        _pillow()
        self._paths = tuple(paths)
        self.labels = labels
        self._size = size

    @property
    def image_shape(self) -> Shape:
        """(3, size, size)."""
        return 3, self._size, self._size

    def images(self, index: Tensor) -> Tensor:
        """uint8 (len(index), 3, size, size): the images at ``index`` (int64), read from disk.

        Raises DataError with the path of an image that cannot be decoded.
        """
        paths = [self._paths[at] for at in index.tolist()]
        with ThreadPoolExecutor(_THREADS) as pool:
            pixels = list(pool.map(self._decoded, paths))
        if not pixels:
            return torch.empty(0, *self.image_shape, dtype=torch.uint8)
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()

    def _decoded(self, path: Path) -> NDArray[np.uint8]:
        pillow = _pillow()
        try:
            pillow.init()  # Pillow registers some formats when it first needs them, and builds may lack one
            with pillow.open(path, formats=[name for name in _FORMATS if name in pillow.OPEN]) as file:
                pixels = file.width * file.height
                if pixels > min(_MOST, max(_LARGE, _PIXELS_PER_BYTE * path.stat().st_size)):
                    raise DataError(
                        f"an image has at most {_MOST:,} pixels, and no more than {_LARGE:,} in a file so small that "
                        f"it may be a decompression bomb; '{path}' says {file.width} x {file.height}: remove it"
                    )
                with _one_at_a_time if pixels > _LARGE else contextlib.nullcontext():
                    image = file.convert("RGB")
        except DataError:
            raise
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and its own errors on damaged files.
        except Exception as error:
            raise DataError(
                f"every image must decode; '{path}' does not ({type(error).__name__}: {error}): repair or remove it"
            ) from error
        # Rounded as torchvision's Resize and CenterCrop do, so that published accuracies are comparable.
        short, crop = round(self._size * _RESIZE / _CROP), self._size
        shorter = min(image.size)
        width, height = (int(short * side / shorter) for side in image.size)
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        bilinear = pillow.Resampling.BILINEAR
        if width * height > _LARGE:  # a strip of 1 x 60,000 would become 256 x 15,360,000: only its middle is made
            across, down = image.width / width, image.height / height
            box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
            return np.asarray(image.resize((crop, crop), bilinear, box=box))
        return np.asarray(image.resize((width, height), bilinear).crop((left, top, left + crop, top + crop)))


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DataError(
            f"image files need Pillow, which cannot be imported ({error}): {install_hint('images')}"
        ) from error


def load_imagefolder(folder: Path, image_size: int) -> Split:
    """List the images under ``folder``/train and ``folder``/test (or, without a test folder, ``folder``/val).

    Classes are the sorted names of the class folders, which must be the same in both. Names that begin with a dot and
    files that are no images (by suffix) are left out. The digests cover names and sizes of the files, as reading a
    large folder through takes too long. Raises DataError for missing or differing folders and a class without images.
    """
    if image_size < 1:
        raise DataError(f"images are at least 1 pixel wide; got image_size={image_size}: 224 is usual for ImageNet")
    train_root = folder / "train"
    test_root = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    if not train_root.is_dir() or test_root is None:
        raise DataError(
            f"'imagefolder:{folder}' needs the folders {train_root} and {folder / 'test'} (or {folder / 'val'}), each "
            "with one folder per class; not all exist: check the path"
        )
    names, test_names = _class_names(train_root), _class_names(test_root)
    if names != test_names:
        only_train = sorted(set(names) - set(test_names))[:3]
        only_test = sorted(set(test_names) - set(names))[:3]
        raise DataError(
            f"train and test have the same class folders; only in '{train_root}': {', '.join(only_train) or 'none'}; "
            f"only in '{test_root}': {', '.join(only_test) or 'none'}: make them alike"
        )
    digests: dict[str, str] = {}
    train = _listed(train_root, names, image_size, digests)
    test = _listed(test_root, names, image_size, digests)
    return Split(folder.resolve().name, train, test, len(names), digests)


def _class_names(root: Path) -> list[str]:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"'{root}' needs one folder per class; it has none: check the path")
    return names


def _listed(root: Path, names: Sequence[str], size: int, digests: dict[str, str]) -> FolderImages:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (root / name).rglob("*") if _is_image(path))
        if not found:
            kinds = " ".join(sorted(_SUFFIXES))
            raise DataError(
                f"every class has images; '{root / name}' holds none of {kinds}: add some or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    entries = [(path.relative_to(root).as_posix(), path.stat().st_size) for path in paths]
    digests[f"{root.name} (file names and sizes)"] = listing_sha256(entries)
    return FolderImages(paths, torch.tensor(labels), size)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
