"""The factorised layers by name: one line of constants each, see :class:`polyadic.layers.FactorisedLayer`.

Each takes the arguments of its torch counterpart and ``rank=`` or ``ratio=``.
"""

from __future__ import annotations

from typing import final

from polyadic.formats import (
    CPFormat,
    SpatialCPFormat,
    SpatialSVDFormat,
    SVDFormat,
    TTFormat,
    Tucker2Format,
)
from polyadic.layers.factorised import FactorisedConv, FactorisedConvTranspose, FactorisedLinear


@final
class SVDLinear(FactorisedLinear):
    """``nn.Linear`` of rank R: S - R - T."""

    fmt = SVDFormat()


@final
class SVDConv1d(FactorisedConv):
    """``nn.Conv1d`` of one tap and rank R: S - R - T."""

    fmt, axes = SVDFormat(), 1


@final
class SVDConv2d(FactorisedConv):
    """``nn.Conv2d`` of one tap and rank R: S - R - T."""

    fmt, axes = SVDFormat(), 2


@final
class SVDConv3d(FactorisedConv):
    """``nn.Conv3d`` of one tap and rank R: S - R - T."""

    fmt, axes = SVDFormat(), 3


@final
class CPConv1d(FactorisedConv):
    """``nn.Conv1d`` as a CP of order 3: 1 x 1 to R channels, a depthwise window, 1 x 1."""

    fmt, axes = CPFormat(), 1


@final
class CPConv2d(FactorisedConv):
    """``nn.Conv2d`` as a CP of order 3: 1 x 1 to R channels, a depthwise window, 1 x 1."""

    fmt, axes = CPFormat(), 2


@final
class CPConv3d(FactorisedConv):
    """``nn.Conv3d`` as a CP of order 3: 1 x 1 to R channels, a depthwise window, 1 x 1."""

    fmt, axes = CPFormat(), 3


@final
class CPConvTranspose1d(FactorisedConvTranspose):
    """``nn.ConvTranspose1d``, see :class:`CPConv1d`."""

    fmt, axes = CPFormat(), 1


@final
class CPConvTranspose2d(FactorisedConvTranspose):
    """``nn.ConvTranspose2d``, see :class:`CPConv2d`."""

    fmt, axes = CPFormat(), 2


@final
class CPConvTranspose3d(FactorisedConvTranspose):
    """``nn.ConvTranspose3d``, see :class:`CPConv3d`."""

    fmt, axes = CPFormat(), 3


@final
class SpatialCPConv2d(FactorisedConv):
    """``nn.Conv2d`` as a CP of order 4: 1 x 1, depthwise along each axis, 1 x 1."""

    fmt, axes = SpatialCPFormat(), 2


@final
class SpatialCPConv3d(FactorisedConv):
    """``nn.Conv3d`` as a CP of order 5: 1 x 1, depthwise along each axis, 1 x 1."""

    fmt, axes = SpatialCPFormat(), 3


@final
class SpatialCPConvTranspose2d(FactorisedConvTranspose):
    """``nn.ConvTranspose2d``, see :class:`SpatialCPConv2d`."""

    fmt, axes = SpatialCPFormat(), 2


@final
class SpatialCPConvTranspose3d(FactorisedConvTranspose):
    """``nn.ConvTranspose3d``, see :class:`SpatialCPConv3d`."""

    fmt, axes = SpatialCPFormat(), 3


@final
class Tucker2Conv1d(FactorisedConv):
    """``nn.Conv1d`` as a Tucker-2 of ranks (R1, R2): 1 x 1, a smaller convolution, 1 x 1."""

    fmt, axes = Tucker2Format(), 1


@final
class Tucker2Conv2d(FactorisedConv):
    """``nn.Conv2d`` as a Tucker-2 of ranks (R1, R2): 1 x 1, a smaller convolution, 1 x 1."""

    fmt, axes = Tucker2Format(), 2


@final
class Tucker2Conv3d(FactorisedConv):
    """``nn.Conv3d`` as a Tucker-2 of ranks (R1, R2): 1 x 1, a smaller convolution, 1 x 1."""

    fmt, axes = Tucker2Format(), 3


@final
class Tucker2ConvTranspose1d(FactorisedConvTranspose):
    """``nn.ConvTranspose1d``, see :class:`Tucker2Conv1d`."""

    fmt, axes = Tucker2Format(), 1


@final
class Tucker2ConvTranspose2d(FactorisedConvTranspose):
    """``nn.ConvTranspose2d``, see :class:`Tucker2Conv2d`."""

    fmt, axes = Tucker2Format(), 2


@final
class Tucker2ConvTranspose3d(FactorisedConvTranspose):
    """``nn.ConvTranspose3d``, see :class:`Tucker2Conv3d`."""

    fmt, axes = Tucker2Format(), 3


@final
class SpatialSVDConv2d(FactorisedConv):
    """``nn.Conv2d`` of rank R between the axes: D x 1 to R channels, 1 x D."""

    fmt, axes = SpatialSVDFormat(), 2


@final
class SpatialSVDConv3d(FactorisedConv):
    """``nn.Conv3d`` of rank R between the axes: D x 1 x 1 to R channels, 1 x D x D."""

    fmt, axes = SpatialSVDFormat(), 3


@final
class SpatialSVDConvTranspose2d(FactorisedConvTranspose):
    """``nn.ConvTranspose2d``, see :class:`SpatialSVDConv2d`."""

    fmt, axes = SpatialSVDFormat(), 2


@final
class SpatialSVDConvTranspose3d(FactorisedConvTranspose):
    """``nn.ConvTranspose3d``, see :class:`SpatialSVDConv3d`."""

    fmt, axes = SpatialSVDFormat(), 3


@final
class TTChainConv2d(FactorisedConv):
    """``nn.Conv2d`` as a tensor train of ranks (r1, r2, r3): 1 x 1, D x 1, 1 x D, 1 x 1."""

    fmt, axes = TTFormat(), 2


@final
class TTChainConv3d(FactorisedConv):
    """``nn.Conv3d`` as a tensor train of ranks (r1 ... r4): 1 x 1, along each axis, 1 x 1."""

    fmt, axes = TTFormat(), 3


@final
class TTChainConvTranspose2d(FactorisedConvTranspose):
    """``nn.ConvTranspose2d``, see :class:`TTChainConv2d`."""

    fmt, axes = TTFormat(), 2


@final
class TTChainConvTranspose3d(FactorisedConvTranspose):
    """``nn.ConvTranspose3d``, see :class:`TTChainConv3d`."""

    fmt, axes = TTFormat(), 3
