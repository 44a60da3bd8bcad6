"""The options that say how images of a folder become inputs of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import typer

from polyadic.cli.data_arguments import InputShape, Mean, Std
from polyadic.cli.lists import image_size, input_size
from polyadic.data import ChannelOrder, Layout, Pixels, ValueRange
from polyadic.errors import PolyadicError
from polyadic.export import Origin

OF_FILES = ("input_size", "channel_order", "layout", "value_range")
"""What says how images of a folder become inputs, as mean, std and resize do."""


@dataclass(frozen=True, kw_only=True)
class ImageFileArguments:
    """Size, order of channels, layout, range and normalisation; the size may be that of other inputs as well."""

    panel: ClassVar[str] = "Data"
    mean: Mean = None
    std: Std = None
    input_shape: InputShape = None
    resize: Annotated[
        bool, typer.Option("--resize/--no-resize", help="scale images of samples:DIR, or cut out their middle unscaled")
    ] = True
    input_size: Annotated[
        str | None,
        typer.Option(help="height x width of images of samples:DIR, or the side of squares", metavar="HxW"),
    ] = None
    channel_order: Annotated[
        str | None,
        typer.Option(help="of images of samples:DIR: rgb (the default), bgr; grey for one channel", metavar="ORDER"),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            help="of batches of samples:DIR: nchw or nhwc; as the input's shape says if absent", metavar="LAYOUT"
        ),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option(
            help="of pixels of samples:DIR before mean and std: 0,1 (the default), 0,255 or -1,1", metavar="LOW,HIGH"
        ),
    ] = None

    def pixels(self, origin: Origin, known: tuple[int, ...] | None) -> Pixels:
        """How images become inputs, as is said here, else as ``origin`` says.

        Args:
            origin: mean and deviation as they hold, and what is known of a saved network.
            known: the shape of an input of the network, where it has one.

        Raises:
            PolyadicError: the size is said twice, or is none.
            DataError: the network takes no images, or other ones than is said.
        """
        if self.input_shape is not None and self.input_size is not None:
            raise PolyadicError("--input-size and --input-shape both say how large an input is: leave out one of them")
        known = known if self.input_shape is None else input_size(self.input_shape)
        size = None if self.input_size is None else image_size(self.input_size)
        order = cast(ChannelOrder | None, self.channel_order or origin.channel_order)
        layout = cast(Layout | None, origin.layout if self.layout is None else self.layout.upper())
        shape = Pixels.shape_of(known, size, order, layout)
        value_range = cast(ValueRange, self.value_range or Pixels.value_range)
        return Pixels(shape, origin.mean, origin.std, self.resize, order, layout, value_range)

    @property
    def of_files(self) -> list[str]:
        """The options that go with image files alone, but for mean and std, as far as they are given."""
        return [*([] if self.resize else ["--no-resize"]), *self.given(OF_FILES)]

    def given(self, names: tuple[str, ...]) -> list[str]:
        """The options among ``names`` that are given, as they are written."""
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name, None) is not None]
