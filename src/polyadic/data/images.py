"""Labelled images as the rest of the library sees them: uint8 in, normalised float32 out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from polyadic.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Shape = tuple[int, int, int]


class ImageSet(ABC):
    """An indexed set of labelled images, in memory or on disk, all of one shape (C, H, W).

    Attributes:
        labels: int64 (N,), the class of every image.
    """

    labels: Tensor

    @abstractmethod
    def images(self, index: Tensor) -> Tensor:
        """uint8 (len(index), C, H, W): the images at ``index`` (int64)."""

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image; found by reading the first one unless the set knows better."""
        channels, height, width = self.images(torch.zeros(1, dtype=torch.int64)).shape[1:]
        return channels, height, width

    def take(self, index: Tensor) -> ImageSet:
        """Return the images at ``index`` (int64, (M,)) as a set of their own, without copying or reading them.

        Raises DataError when an index lies outside 0 .. N - 1.
        """
        return ImageView(self, index)

    def __len__(self) -> int:
        return int(self.labels.numel())


@final
class ArrayImages(ImageSet):
    """Images in memory: ``pixels`` uint8 (N, C, H, W), ``labels`` int64 (N,).

    Raises DataError for another dtype, another number of axes, differing lengths or no images at all.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(
                f"images are uint8 (N, C, H, W); got {pixels.dtype} {tuple(pixels.shape)}: convert them to 0..255 first"
            )
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise DataError(
                f"labels are int64 (N,); got {labels.dtype} {tuple(labels.shape)}: give one class per image"
            )
        if len(pixels) != len(labels):
            raise DataError(f"every image has one label; got {len(pixels)} images and {len(labels)} labels")
        if pixels.numel() == 0:
            raise DataError(f"a set of images may not be empty; got shape {tuple(pixels.shape)}: check its source")
        self._pixels = pixels
        self.labels = labels

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image."""
        channels, height, width = self._pixels.shape[1:]
        return channels, height, width

    def images(self, index: Tensor) -> Tensor:
        """uint8 (len(index), C, H, W): a copy of the images at ``index`` (int64)."""
        return self._pixels[index]


@final
class ImageView(ImageSet):
    """The images of ``source`` at ``index`` (int64, (M,)), in that order; a view of a view points at the origin.

    Raises DataError when an index lies outside ``source``.
    """

    def __init__(self, source: ImageSet, index: Tensor) -> None:
        if index.dtype != torch.int64 or index.ndim != 1:
            raise DataError(f"an index is int64 (M,); got {index.dtype} {tuple(index.shape)}: use torch.tensor([...])")
        outside = index[(index < 0) | (index >= len(source))]
        if outside.numel():
            raise DataError(
                f"an index lies in 0..{len(source) - 1}; got {int(outside[0])}: the set has {len(source)} images"
            )
        if isinstance(source, ImageView):
            index = source._index[index]
            source = source._source
        self._source: ImageSet = source
        self._index: Tensor = index
        self.labels = source.labels[index]

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image."""
        return self._source.image_shape

    def images(self, index: Tensor) -> Tensor:
        """uint8 (len(index), C, H, W): the images at ``index`` (int64) of this view."""
        return self._source.images(self._index[index])


@dataclass(frozen=True)
class ImageData:
    """Three disjoint sets of labelled images and how to normalise them.

    ``train`` is learnt from, ``held_out`` (taken from the training images) decides, ``test`` is measured once at the
    end. Labels lie in 0 .. classes - 1. ``mean`` and ``std`` hold one number per channel, of pixels in 0..1.
    ``digests`` names the sha256 of every source. Raises DataError when a set is empty, a label or the number of
    constants is wrong, a ``std`` is not positive or the sets differ in image shape.
    """

    name: str
    train: ImageSet
    held_out: ImageSet
    test: ImageSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digests: dict[str, str]

    def __post_init__(self) -> None:
        sets = (("train", self.train), ("held-out", self.held_out), ("test", self.test))
        for role, images in sets:
            if len(images) == 0:
                raise DataError(f"every set needs images; the {role} set of '{self.name}' is empty: check its source")
            check_labels(images.labels, self.classes, f"the {role} set of '{self.name}'")
            if images.image_shape != self.image_shape:
                raise DataError(
                    f"all images of '{self.name}' have one shape (C, H, W); the {role} set has {images.image_shape}, "
                    f"the train set {self.image_shape}: bring them to one size"
                )
        channels = self.image_shape[0]
        for what, constants in (("mean", self.mean), ("std", self.std)):
            if len(constants) != channels:
                raise DataError(
                    f"{what} has one number per channel; got {len(constants)} for the {channels} channel(s) of "
                    f"'{self.name}': give {channels}"
                )
            if not all(math.isfinite(number) for number in constants) or (what == "std" and min(constants) <= 0):
                raise DataError(
                    f"mean is finite and std positive, of pixels scaled to 0..1; got {what} {constants} for "
                    f"'{self.name}': give those the network was trained with"
                )

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of every image."""
        return self.train.image_shape

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 (N, C, H, W) into float32 (N, C, H, W): (images / 255 - mean) / std, on the device of ``images``.

        Raises DataError for another dtype or number of channels.
        """
        channels = len(self.mean)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise DataError(
                f"normalise takes uint8 (N, {channels}, H, W); got {images.dtype} {tuple(images.shape)}: give raw ones"
            )
        mean = torch.tensor(self.mean, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)

    def example(self, n: int = 1) -> Tensor:
        """float32 (n, C, H, W): the first ``n`` training images, normalised.

        Raises DataError unless 1 <= n <= the number of training images.
        """
        if not 1 <= n <= len(self.train):
            raise DataError(f"an example holds 1..{len(self.train)} training images; got n={n}")
        return self.normalise(self.train.images(torch.arange(n)))


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Check that every label (int64, (N,)) lies in 0 .. classes - 1; ``where`` names the set.

    Raises DataError with the first label that does not, its position and the number of classes.
    """
    wrong = torch.nonzero((labels < 0) | (labels >= classes))
    if wrong.numel():
        at = int(wrong[0])
        raise DataError(
            f"labels lie in 0..{classes - 1} ({classes} classes); label {at} of {where} is {int(labels[at])}: number "
            "the classes from 0, alike in every set"
        )
