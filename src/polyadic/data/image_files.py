"""Image files: found, decoded, and cut to the size that a network takes."""

from __future__ import annotations

import contextlib
import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyadic.errors import DataError, install_hint

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
THREADS = 4
"""Pillow decodes outside the interpreter lock; more threads than this only wait for the disk."""
# Those whose names end as above, and what cameras and browsers name so; Pillow would run Ghostscript on PostScript.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pixels take up to 8 bytes while they are decoded and converted. Four images of _LARGE pixels at a time are 512 MiB;
# larger ones are decoded one at a time, if their file is as large as that of a photograph, up to _MOST (512 MiB).
_LARGE, _MOST = 2**24, 2**26
_PIXELS_PER_BYTE = 64  # strongly compressed photographs have 40, a picture of one colour 200 (JPEG) to 8000 (PNG)
_one_at_a_time = threading.Lock()
# Evaluation on ImageNet: the shorter side becomes 256 pixels, of which the middle 224 are kept.
_RESIZE, _CROP = 256, 224


def image_paths(folder: Path) -> list[Path]:
    """The image files below ``folder``, in the order of their names; hidden ones are no images."""
    return sorted(path for path in folder.rglob("*") if _is_image(path))


def suffixes() -> str:
    """What names of image files end with, for messages."""
    return " ".join(sorted(_SUFFIXES))


def decode(path: Path, mode: str) -> Any:
    """The image in a file, as Pillow has it, in ``mode``: "RGB", or "L" for grey.

    Raises:
        DataError: it does not decode, is larger than an image may be, or Pillow is not installed.
    """
    package = pillow()
    try:
        package.init()  # Pillow registers some formats when it first needs them, and builds may lack one
        with package.open(path, formats=[name for name in _FORMATS if name in package.OPEN]) as file:
            pixels = file.width * file.height
            if pixels > min(_MOST, max(_LARGE, _PIXELS_PER_BYTE * path.stat().st_size)):
                raise DataError(
                    f"an image has at most {_MOST:,} pixels, and no more than {_LARGE:,} in a file so small that "
                    f"it may be a decompression bomb; '{path}' says {file.width} x {file.height}: remove it"
                )
            with _one_at_a_time if pixels > _LARGE else contextlib.nullcontext():
                return file.convert(mode)
    except DataError:
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and its own errors on damaged files.
    except Exception as error:
        raise DataError(
            f"every image must decode; '{path}' does not ({type(error).__name__}: {error}): repair or remove it"
        ) from error


def middle_of(image: Any, height: int, width: int, *, resize: bool = True) -> NDArray[np.uint8]:
    """The middle of an image (H, W) or (H, W, 3): height x width pixels.

    With ``resize`` the image is scaled (bilinear) before, to 256 / 224 of that in the tighter direction, as for
    evaluation on ImageNet; without, it is as large as that or larger.
    """
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    if not resize:
        return np.asarray(image.crop((left, top, left + width, top + height)))
    # Rounded as torchvision's Resize and CenterCrop do, so that published accuracies are comparable.
    tight_width, tight_height = (round(size * _RESIZE / _CROP) for size in (width, height))
    if image.width * tight_height <= image.height * tight_width:
        across, down = tight_width, int(tight_width * image.height / image.width)
    else:
        across, down = int(tight_height * image.width / image.height), tight_height
    left, top = round((across - width) / 2), round((down - height) / 2)
    bilinear = pillow().Resampling.BILINEAR
    if across * down > _LARGE:  # a strip of 1 x 60,000 would become 256 x 15,360,000: only its middle is made
        right, below = image.width / across, image.height / down
        box = (left * right, top * below, (left + width) * right, (top + height) * below)
        return np.asarray(image.resize((width, height), bilinear, box=box))
    return np.asarray(image.resize((across, down), bilinear).crop((left, top, left + width, top + height)))


def pillow() -> Any:
    """Pillow's module of images.

    Raises:
        DataError: it cannot be imported.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DataError(
            f"image files need Pillow, which cannot be imported ({error}): {install_hint('images')}"
        ) from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
