"""The options that name images with labels, and what they and samples have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from polyadic.cli.lists import numbers
from polyadic.data import ImageData, load_data
from polyadic.export import Origin

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
