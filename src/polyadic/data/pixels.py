"""How the pixels of image files become the input of a network: size, order, layout, range, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyadic.data.images import IMAGENET_MEAN, IMAGENET_STD
from polyadic.errors import DataError

ChannelOrder = Literal["rgb", "bgr", "grey"]
Layout = Literal["NCHW", "NHWC"]
ValueRange = Literal["0,1", "0,255", "-1,1"]

_CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}
_RANGES = {"0,1": (0, 1), "0,255": (0, 255), "-1,1": (-1, 1)}


@dataclass(frozen=True)
class Pixels:
    """How images of a folder become inputs.

    Attributes:
        shape: of one input, (C, H, W) or (H, W, C), of 1 channel (grey) or 3.
        mean: per channel in the order of the input, of pixels in ``value_range``; by default the constants of ImageNet
            for 3 channels and 0.5 for 1 where that is 0,1, else 0.
        std: likewise, and 1 where that is another range.
        resize: whether images are scaled before their middle is cut out, as for evaluation on ImageNet.
        channel_order: of colours; None is "rgb" of 3 channels and "grey" of 1.
        layout: of a batch; None is what ``shape`` says, and "NCHW" where it may be either.
        value_range: of pixels, lowest and highest, before ``mean`` is subtracted.
    """

    shape: tuple[int, ...] = (3, 224, 224)
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: bool = True
    channel_order: ChannelOrder | None = None
    layout: Layout | None = None
    value_range: ValueRange = "0,1"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("layout", self.layout, (None, *get_args(Layout))),
            ("channel order", self.channel_order, (None, *_CHANNELS)),
            ("range of values", self.value_range, get_args(ValueRange)),
        ):
            if value not in known:
                raise DataError(f"the {name} is {' or '.join(filter(None, known))}; got {value!r}: give one of them")
        size = self._size
        if size is None or min(size[1:]) < 1:
            layout = "(C, H, W) or (H, W, C)" if self.layout is None else f"as {self.layout}"
            raise DataError(
                f"images of a folder have 1 channel (grey) or 3, {layout}; the network takes {self.shape}: give the "
                "size with --input-shape C,H,W, or the samples as npy:FILE"
            )
        if self.channel_order is not None and _CHANNELS[self.channel_order] != self.channels:
            raise DataError(
                f"{self.channel_order} has {_CHANNELS[self.channel_order]} channel(s); the network takes "
                f"{self.channels} ({self.shape}): give another channel order, or leave it out"
            )
        for name, constants in (("mean", self.mean), ("std", self.std)):
            if constants is not None and len(constants) != self.channels:
                raise DataError(
                    f"{name} has one number per channel; got {len(constants)} for {self.channels} channel(s): give "
                    f"{self.channels}"
                )
        for name, constants, low in (("mean", self.mean, -math.inf), ("std", self.std, 0)):
            if constants is not None and not all(low < number < math.inf for number in constants):
                raise DataError(
                    f"mean is finite, and std finite and above 0; got {name} {tuple(constants)}: give those the "
                    "network was trained with"
                )

    @classmethod
    def shape_of(
        cls,
        known: tuple[int, ...] | None,
        size: tuple[int, int] | None,
        channel_order: ChannelOrder | None = None,
        layout: Layout | None = None,
    ) -> tuple[int, ...]:
        """The shape of one input whose image is ``size`` (H, W): its channels and layout are those that are known.

        Args:
            known: the shape of an input of the network, where it has one.
            size: of the image; None leaves that of ``known``, else 224 x 224.
            channel_order: tells the channels where ``known`` does not.
            layout: likewise.
        """
        if known is not None and size is None:
            return known
        if known is not None:
            own = cls(known, layout=layout)
            channels, layout = own.channels, own.known_layout
        else:
            channels = _CHANNELS.get(channel_order or "rgb", 3)
        height, width = cls.shape[1:] if size is None else size
        return (height, width, channels) if layout == "NHWC" else (channels, height, width)

    @property
    def _size(self) -> tuple[int, int, int] | None:
        """Channels, height and width; None where ``shape`` is that of no image."""
        if len(self.shape) != 3:
            return None
        first, middle, last = self.shape
        if first in (1, 3) and self.layout != "NHWC":
            return first, middle, last
        return (last, first, middle) if last in (1, 3) and self.layout != "NCHW" else None

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W), whatever the layout."""
        size = self._size
        assert size is not None  # it would have been refused
        return size

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.size[0]

    @property
    def known_layout(self) -> Layout:
        """The layout, said or seen."""
        if self.layout is not None:
            return self.layout
        return "NCHW" if self.shape[0] in (1, 3) else "NHWC"

    @property
    def known_order(self) -> ChannelOrder:
        """The order of channels, said or seen."""
        return self.channel_order or ("rgb" if self.channels == 3 else "grey")

    @property
    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of pixels in 0..1, whatever the range: (pixels / 255 - mean) / std is the input."""
        low, width = self._low_and_width
        mean, std = self._own_constants
        return tuple((number - low) / width for number in mean), tuple(number / width for number in std)

    @property
    def _low_and_width(self) -> tuple[int, int]:
        low, high = _RANGES[self.value_range]
        return low, high - low

    @property
    def _own_constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of pixels in their range."""
        if self.value_range != "0,1":
            mean, std = (0.0,) * self.channels, (1.0,) * self.channels
        else:
            mean, std = (IMAGENET_MEAN, IMAGENET_STD) if self.channels == 3 else ((0.5,), (0.5,))
            if self.channel_order == "bgr":
                mean, std = mean[::-1], std[::-1]
        return tuple(mean if self.mean is None else self.mean), tuple(std if self.std is None else self.std)

    def normalise(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (N, H, W), or (N, H, W, 3) as RGB, as the float32 input: (pixels / 255 - mean) / std per channel."""
        stacked = torch.from_numpy(np.ascontiguousarray(pixels))
        images = stacked[..., None] if stacked.dim() == 3 else stacked
        if self.channel_order == "bgr":
            images = images.flip(-1)
        mean, std = (torch.tensor(constant) for constant in self._own_constants)
        low, width = self._low_and_width
        made = (images.float() / (255 / width) + low - mean) / std
        return (made if self.known_layout == "NHWC" else made.permute(0, 3, 1, 2)).contiguous()

    def to_json(self) -> dict[str, Any]:
        """What is done with images, every choice spelled out; mean and std are of pixels in ``value_range``."""
        mean, std = self._own_constants
        channels, height, width = self.size
        return {
            "size": [height, width],
            "channels": channels,
            "channel_order": self.known_order,
            "layout": self.known_layout,
            "value_range": self.value_range,
            "mean": list(mean),
            "std": list(std),
            "resized": self.resize,
        }
