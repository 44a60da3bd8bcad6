"""Images in folders, one folder per class: DIR/train/<class>/*.jpg and DIR/test (or DIR/val) likewise."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyadic.data.arrays import Split, listing_sha256
from polyadic.data.image_files import THREADS, decode, image_paths, middle_of, pillow, suffixes
from polyadic.data.images import ImageSet, Shape
from polyadic.errors import DataError


@final
class FolderImages(ImageSet):
    """RGB images decoded when asked for: shorter side to size * 256 / 224 pixels (bilinear), centre crop size x size.

    ``paths`` are the files, ``labels`` int64 (N,) their classes. Raises DataError when Pillow is not installed.
    """

    def __init__(self, paths: Sequence[Path], labels: Tensor, size: int) -> None:
        pillow()
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
        with ThreadPoolExecutor(THREADS) as pool:
            pixels = list(pool.map(self._decoded, paths))
        if not pixels:
            return torch.empty(0, *self.image_shape, dtype=torch.uint8)
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()

    def _decoded(self, path: Path) -> NDArray[np.uint8]:
        return middle_of(decode(path, "RGB"), self._size, self._size)


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
        found = image_paths(root / name)
        if not found:
            raise DataError(
                f"every class has images; '{root / name}' holds none of {suffixes()}: add some or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    entries = [(path.relative_to(root).as_posix(), path.stat().st_size) for path in paths]
    digests[f"{root.name} (file names and sizes)"] = listing_sha256(entries)
    return FolderImages(paths, torch.tensor(labels), size)
