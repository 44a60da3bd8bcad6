"""The options that name images with labels, and what they and samples have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import typer
from torch import Tensor

from polyadic.cli.lists import input_size, numbers
from polyadic.data import ImageData, load_data
from polyadic.errors import LayerError
from polyadic.export import Origin
from polyadic.models import LoadedModel

Mean = Annotated[str | None, typer.Option(help="per-channel mean of pixels in 0..1, such as 0.485,0.456,0.406")]
Std = Annotated[str | None, typer.Option(help="per-channel standard deviation")]
HeldOut = Annotated[int | None, typer.Option(help="training images held out to choose ranks", rich_help_panel="Data")]
InputShape = Annotated[str | None, typer.Option(help="size of one input, such as 3,224,224")]


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Images, and how they are normalised."""

    panel: ClassVar[str] = "Data"
    data: Annotated[str, typer.Option(help="digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR or module:factory")]
    mean: Mean = None
    std: Std = None

    def load(self, seed: int = 0, held_out: int | None = None, origin: Origin | None = None) -> ImageData:
        """The images, normalised as was asked, else as ``origin`` says."""
        return _images(self.data, self.mean, self.std, origin, seed, held_out)


@dataclass(frozen=True, kw_only=True)
class SizeArguments:
    """What tells how large an input is: images, or the size itself."""

    panel: ClassVar[str] = "Data"
    data: Annotated[str | None, typer.Option(help="as in compress; here only for the size of an image")] = None
    input_shape: InputShape = None
    mean: Mean = None
    std: Std = None

    def load(self, seed: int = 0, held_out: int | None = None, origin: Origin | None = None) -> ImageData | None:
        """The images, where any are named."""
        return None if self.data is None else _images(self.data, self.mean, self.std, origin, seed, held_out)

    def example(self, loaded: LoadedModel, images: ImageData | None) -> Tensor:
        """One input of zeros (1, ...): as large as the size says, else as the images, else as the model's name.

        Raises:
            LayerError: nobody knows the size, or it is none.
        """
        shape = images.image_shape if images is not None else loaded.input_shape
        if self.input_shape is not None:
            return torch.zeros(1, *input_size(self.input_shape))
        if shape is None:
            raise LayerError(
                f"taking {loaded.source!r} apart needs the size of an input: give --input-shape C,H,W or --data"
            )
        return torch.zeros(1, *shape)


def _images(
    text: str, mean: str | None, std: str | None, origin: Origin | None, seed: int, held_out: int | None
) -> ImageData:
    usual = origin or Origin()
    return load_data(
        text,
        mean=numbers(mean, "--mean") or usual.mean,
        std=numbers(std, "--std") or usual.std,
        held_out=held_out,
        seed=seed,
    )
