"""Tensor-train layers that are constructed like their torch counterparts, from scratch or from a dense layer.

Garipov, Podoprikhin, Novikov and Vetrov, *Ultimate tensorization* (2016): TT-conv and TT-FC.
"""

# ruff: noqa: D101  (the docstring of each line of the table is written by its base)

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import nn

from polyadic.errors import LayerError
from polyadic.formats import TTMatrixFormat, rank_for
from polyadic.layers.factorised import Device, Ranks
from polyadic.layers.plain import Counterpart, Sizes, conv_spec
from polyadic.layers.tt_layer import TTLayer
from polyadic.schema import ConvSpec, Rank, TTSpec, Way

Modes = Sequence[int] | None


class _Tensorised(TTLayer, Counterpart):
    """Modes and ranks of a layer, and its way from a dense one."""

    def __init__(
        self,
        dense: ConvSpec,
        ranks: Ranks,
        modes: tuple[Modes, Modes],
        way: Way,
        device: Device,
        dtype: torch.dtype | None,
    ) -> None:
        fmt = _format(*modes)
        (spec,) = fmt.chain(dense, _fit_ranks(fmt, dense, ranks))
        super().__init__(spec.in_way(way), device, dtype)

    def __init_subclass__(cls, axes: int | None = None) -> None:
        """A class of a number of axes is one of the public ones; its docstring is written here."""
        super().__init_subclass__()
        if axes is not None:
            cls.axes = axes
            sizes = "16, 32, 3, padding=1" if axes else "16, 32"
            cls.describe("with a matrix tensor train for a kernel", f"{sizes}, ranks=8")

    @classmethod
    def from_dense(
        cls,
        layer: nn.Module,
        ranks: Ranks | None = None,
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
        dense, kernel, weight, bias = cls.weights_of(layer)
        fmt = _format(row_modes, column_modes)
        given = _fit_ranks(fmt, dense, ranks) if ranks is not None else None
        factored = fmt.factorise(kernel, dense, rank_for(fmt, kernel, dense, rank=given, ratio=ratio, error=error))
        made = cls.__new__(cls)
        spec = cast(TTSpec, factored.stages[0]).in_way(way)
        TTLayer.__init__(made, spec, device=weight.device, dtype=weight.dtype)
        made.load_flat(factored.weights[0])
        if made.bias is not None and bias is not None:
            with torch.no_grad():
                made.bias.copy_(bias)
        return made.train(layer.training)


class TTLinear(_Tensorised, axes=0):
    """``nn.Linear`` with a matrix tensor train for a weight (TT-FC; Novikov et al., NIPS 2015).

    Args:
        in_features: S.
        out_features: T.
        bias: whether T numbers are added.
        ranks: ``r_1 ... r_{d-1}``, or one number for all (no bond gets more than it can use).
        row_modes: ``t_1 ... t_d`` with product T or more; :func:`polyadic.algebra.covering_modes` finds them if absent.
        column_modes: ``s_1 ... s_d`` with product S or more; likewise.
        way: how it runs, see :class:`polyadic.layers.TTLayer`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        LayerError: modes or ranks that do not fit.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        ranks: Ranks = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = ConvSpec(in_features, out_features, bias=bias)
        super().__init__(dense, ranks, (row_modes, column_modes), way, device, dtype)


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
        device: of the parameters.
        dtype: of the parameters.

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
        ranks: Ranks = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = conv_spec(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip
        super().__init__(dense, ranks, (row_modes, column_modes), way, device, dtype)


class _TTConvTranspose(_Tensorised):
    """A transposed convolution as a tensor train.

    Args and errors are those of :class:`TTConv2d`, in torch's order: ``output_padding`` comes after ``padding`` and
    ``dilation`` last; paddings are zeros, by numbers.
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
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        ranks: Ranks = 8,
        row_modes: Modes = None,
        column_modes: Modes = None,
        way: Way = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = conv_spec(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, bias=bias, output_padding=output_padding,
        )  # fmt: skip
        super().__init__(dense, ranks, (row_modes, column_modes), way, device, dtype)


# fmt: off
class TTConv1d(_TTConv, axes=1): ...
class TTConv2d(_TTConv, axes=2): ...
class TTConv3d(_TTConv, axes=3): ...
class TTConvTranspose1d(_TTConvTranspose, axes=1): ...
class TTConvTranspose2d(_TTConvTranspose, axes=2): ...
class TTConvTranspose3d(_TTConvTranspose, axes=3): ...
# fmt: on


def _format(rows: Modes, columns: Modes) -> TTMatrixFormat:
    return TTMatrixFormat(
        tuple(rows) if rows is not None else None,
        tuple(columns) if columns is not None else None,
    )


def _fit_ranks(fmt: TTMatrixFormat, dense: ConvSpec, ranks: Ranks) -> Rank:
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
