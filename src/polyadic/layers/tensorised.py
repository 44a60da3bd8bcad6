"""Tensor-train layers that are constructed like their torch counterparts, from scratch or from a dense layer.

Garipov, Podoprikhin, Novikov and Vetrov, *Ultimate tensorization* (2016): TT-conv and TT-FC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import TTMatrixFormat, rank_for
from polyadic.layers.arguments import Sizes, convolution
from polyadic.layers.plain import kernel_of, spec_of
from polyadic.layers.tt_layer import TTLayer
from polyadic.schema import ConvSpec, Rank, TTSpec, Way

Modes = Sequence[int] | None


class _Tensorised(TTLayer):
    """Modes and ranks of a layer, and its way from a dense one."""

    axes: ClassVar[int] = 0
    transposed: ClassVar[bool] = False

    def __init__(
        self, dense: ConvSpec, ranks: int | Sequence[int], rows: Modes, columns: Modes, way: Way, **factory: Any
    ) -> None:
        fmt = _format(rows, columns)
        (spec,) = fmt.chain(dense, _fitting(fmt, dense, ranks))
        super().__init__(spec.in_way(way), **factory)

    @classmethod
    def from_dense(
        cls,
        layer: nn.Module,
        ranks: int | Sequence[int] | None = None,
        *,
        ratio: float | None = None,
        error: float | None = None,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
    ) -> Self:
        """Decompose a trained layer by TT-SVD.

        Args:
            layer: the torch counterpart of this class.
            ranks: as in the constructor; or else one of
            ratio: at least so many times fewer numbers in the cores than in the kernel, and
            error: bound on ``||K - K^|| / ||K||``, in [0, 1).
            row_modes: as in the constructor.
            column_modes: as in the constructor.
            way: as in the constructor.

        Raises:
            LayerError: another kind of layer, several groups, modes or ranks that do not fit, not exactly one of ranks,
                ratio and error.
            DecompositionError: NaN or Inf weights, a bound out of range.
        """
        dense, fmt = spec_of(layer), _format(row_modes, column_modes)
        if dense is None or (dense.axes, dense.transposed) != (cls.axes, cls.transposed):
            raise LayerError(f"{cls.__name__}.from_dense takes its torch counterpart; got {type(layer).__name__}")
        weight = cast(Tensor, layer.weight).detach()
        kernel = kernel_of(weight, dense)
        given = _fitting(fmt, dense, ranks) if ranks is not None else None
        factored = fmt.factorise(kernel, dense, rank_for(fmt, kernel, dense, rank=given, ratio=ratio, error=error))
        made = cls.__new__(cls)
        spec = cast(TTSpec, factored.stages[0]).in_way(way)
        TTLayer.__init__(made, spec, device=weight.device, dtype=weight.dtype)
        made.load_flat(factored.weights[0])
        if made.bias is not None:
            with torch.no_grad():
                made.bias.copy_(cast(Tensor, layer.bias))
        return made.train(layer.training)


class TTLinear(_Tensorised):
    """``nn.Linear`` with a matrix tensor train for a weight (TT-FC; Novikov et al., NIPS 2015).

    Args:
        in_features: S.
        out_features: T.
        bias: whether T numbers are added.
        ranks: ``r_1 ... r_{d-1}``, or one number for all (no bond gets more than it can use).
        row_modes: ``t_1 ... t_d`` with product T or more; :func:`polyadic.algebra.covering_modes` finds them if absent.
        column_modes: ``s_1 ... s_d`` with product S or more; likewise.
        way: how it runs, see :class:`polyadic.layers.TTLayer`.
        factory: ``device`` and ``dtype``.

    Raises:
        LayerError: modes or ranks that do not fit.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        ranks: int | Sequence[int] = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        **factory: Any,
    ) -> None:
        dense = ConvSpec(in_features, out_features, bias=bias)
        super().__init__(dense, ranks, row_modes, column_modes, way, **factory)


class _TTConv(_Tensorised):
    """A convolution of which channels and window are a tensor train (TT-conv; Garipov et al. 2016).

    Args:
        in_channels: S.
        out_channels: T.
        kernel_size: of the window, one number or one per axis; so are stride, padding and dilation.
        stride: as in torch.
        padding: as in torch, "same" and "valid" too.
        dilation: as in torch.
        bias: whether T numbers are added.
        padding_mode: as in torch.
        ranks: ``r_0 ... r_{d-1}`` (``r_0`` only where the window has several taps), or one number for all.
        row_modes: ``t_1 ... t_d`` with product T or more; :func:`polyadic.algebra.covering_modes` finds them if absent.
        column_modes: ``s_1 ... s_d`` with product S or more; likewise.
        way: how it runs, see :class:`polyadic.layers.TTLayer`.
        factory: ``device`` and ``dtype``.

    Raises:
        LayerError: sizes of another number of axes or out of range, modes or ranks that do not fit.
        ValueError: a padding that torch has not.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        ranks: int | Sequence[int] = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        **factory: Any,
    ) -> None:
        dense = convolution(
            self.axes,
            in_channels,
            out_channels,
            padding=padding,
            bias=bias,
            padding_mode=padding_mode,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
        )
        super().__init__(dense, ranks, row_modes, column_modes, way, **factory)


class TTConv1d(_TTConv):
    """``nn.Conv1d`` as a tensor train."""

    axes = 1


class TTConv2d(_TTConv):
    """``nn.Conv2d`` as a tensor train."""

    axes = 2


class TTConv3d(_TTConv):
    """``nn.Conv3d`` as a tensor train."""

    axes = 3


class _TTConvTranspose(_TTConv):
    """A transposed convolution as a tensor train; the arguments of :class:`TTConv2d`, and ``output_padding``."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        ranks: int | Sequence[int] = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        **factory: Any,
    ) -> None:
        dense = convolution(
            self.axes,
            in_channels,
            out_channels,
            padding=padding,
            output_padding=output_padding,
            bias=bias,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
        )
        _Tensorised.__init__(self, dense, ranks, row_modes, column_modes, way, **factory)


class TTConvTranspose1d(_TTConvTranspose):
    """``nn.ConvTranspose1d`` as a tensor train."""

    axes = 1


class TTConvTranspose2d(_TTConvTranspose):
    """``nn.ConvTranspose2d`` as a tensor train."""

    axes = 2


class TTConvTranspose3d(_TTConvTranspose):
    """``nn.ConvTranspose3d`` as a tensor train."""

    axes = 3


def _format(rows: Modes, columns: Modes) -> TTMatrixFormat:
    return TTMatrixFormat(
        tuple(rows) if rows is not None else None,
        tuple(columns) if columns is not None else None,
    )


def _fitting(fmt: TTMatrixFormat, dense: ConvSpec, ranks: int | Sequence[int]) -> Rank:
    """One rank for all bonds where one number is given, and never more than a bond can use."""
    reason = fmt.refuses(dense)
    if reason is not None:
        raise LayerError(f"a tensor-train layer cannot be built: {reason}")
    if not isinstance(ranks, int):
        fmt.check(dense, tuple(ranks))
        return tuple(ranks)
    if ranks < 1:
        raise LayerError(f"ranks of a tensor-train layer are at least 1; got {ranks}")
    return tuple(min(ranks, most) for most in fmt.largest_rank(dense))
