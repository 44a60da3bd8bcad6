"""The factorised layers by name, one line each, and how they are constructed: like torch's, with a rank or a ratio."""

# ruff: noqa: D101  (FactorisedLayer writes the docstring of each line of the table)

from __future__ import annotations

import torch

from polyadic.formats import CPFormat, SpatialCPFormat, SpatialSVDFormat, SVDFormat, TTFormat, Tucker2Format
from polyadic.layers.factorised import Device, FactorisedLayer, Ranks
from polyadic.layers.plain import Sizes, conv_spec
from polyadic.schema import ConvSpec


class FactorisedLinear(FactorisedLayer):
    """Constructed like ``nn.Linear``.

    Args:
        in_features: S.
        out_features: T.
        bias: whether T numbers are added.
        rank: rank or ranks; one number serves for several. Or else
        ratio: at least so many times fewer numbers than in the dense kernel.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        LayerError: the format refuses the layer, a rank out of bounds, a ratio that no rank reaches, both or neither.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(ConvSpec(in_features, out_features, bias=bias), rank, ratio, device, dtype)


class FactorisedConv(FactorisedLayer):
    """Constructed like ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``, with a rank.

    Args:
        in_channels: S.
        out_channels: T.
        kernel_size: of the window, one number or one per axis; so are stride, padding and dilation.
        stride: as in torch.
        padding: as in torch, "same" and "valid" too.
        dilation: as in torch.
        groups: as in torch; every group has a chain of its own.
        bias: whether T numbers are added.
        padding_mode: as in torch.
        rank: rank or ranks of each group; one number serves for several. Or else
        ratio: at least so many times fewer numbers than in the dense kernel; several ranks are then equal shares of
            their largest values.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        LayerError: sizes of another number of axes, channels that do not divide into the groups, a layer that the
            format refuses, a rank out of bounds, a ratio that no rank reaches, both or neither.
        ValueError: what torch refuses of its own layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = conv_spec(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip
        super().__init__(dense, rank, ratio, device, dtype)


class FactorisedConvTranspose(FactorisedLayer):
    """Constructed like ``nn.ConvTranspose1d`` to ``nn.ConvTranspose3d``, with a rank.

    Args and errors are those of :class:`FactorisedConv`, in torch's order: ``output_padding`` comes after ``padding``
    and ``dilation`` last; paddings are zeros, by numbers.
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = conv_spec(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, output_padding=output_padding,
        )  # fmt: skip
        super().__init__(dense, rank, ratio, device, dtype)


# fmt: off
class SVDLinear(FactorisedLinear, fmt=SVDFormat()): ...
class SVDConv1d(FactorisedConv, fmt=SVDFormat(), axes=1): ...
class SVDConv2d(FactorisedConv, fmt=SVDFormat(), axes=2): ...
class SVDConv3d(FactorisedConv, fmt=SVDFormat(), axes=3): ...
class CPConv1d(FactorisedConv, fmt=CPFormat(), axes=1): ...
class CPConv2d(FactorisedConv, fmt=CPFormat(), axes=2): ...
class CPConv3d(FactorisedConv, fmt=CPFormat(), axes=3): ...
class CPConvTranspose1d(FactorisedConvTranspose, fmt=CPFormat(), axes=1): ...
class CPConvTranspose2d(FactorisedConvTranspose, fmt=CPFormat(), axes=2): ...
class CPConvTranspose3d(FactorisedConvTranspose, fmt=CPFormat(), axes=3): ...
class SpatialCPConv2d(FactorisedConv, fmt=SpatialCPFormat(), axes=2): ...
class SpatialCPConv3d(FactorisedConv, fmt=SpatialCPFormat(), axes=3): ...
class SpatialCPConvTranspose2d(FactorisedConvTranspose, fmt=SpatialCPFormat(), axes=2): ...
class SpatialCPConvTranspose3d(FactorisedConvTranspose, fmt=SpatialCPFormat(), axes=3): ...
class Tucker2Conv1d(FactorisedConv, fmt=Tucker2Format(), axes=1): ...
class Tucker2Conv2d(FactorisedConv, fmt=Tucker2Format(), axes=2): ...
class Tucker2Conv3d(FactorisedConv, fmt=Tucker2Format(), axes=3): ...
class Tucker2ConvTranspose1d(FactorisedConvTranspose, fmt=Tucker2Format(), axes=1): ...
class Tucker2ConvTranspose2d(FactorisedConvTranspose, fmt=Tucker2Format(), axes=2): ...
class Tucker2ConvTranspose3d(FactorisedConvTranspose, fmt=Tucker2Format(), axes=3): ...
class SpatialSVDConv2d(FactorisedConv, fmt=SpatialSVDFormat(), axes=2): ...
class SpatialSVDConv3d(FactorisedConv, fmt=SpatialSVDFormat(), axes=3): ...
class SpatialSVDConvTranspose2d(FactorisedConvTranspose, fmt=SpatialSVDFormat(), axes=2): ...
class SpatialSVDConvTranspose3d(FactorisedConvTranspose, fmt=SpatialSVDFormat(), axes=3): ...
class TTChainConv2d(FactorisedConv, fmt=TTFormat(), axes=2): ...
class TTChainConv3d(FactorisedConv, fmt=TTFormat(), axes=3): ...
class TTChainConvTranspose2d(FactorisedConvTranspose, fmt=TTFormat(), axes=2): ...
class TTChainConvTranspose3d(FactorisedConvTranspose, fmt=TTFormat(), axes=3): ...
# fmt: on
