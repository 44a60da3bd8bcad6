"""A layer whose kernel is a matrix tensor train, in integers alone (Garipov et al. 2016; Novikov et al. 2015).

The kernel of a convolution is a ``(D^2 T) x S`` matrix with row modes ``(D^2, t_1, ..., t_d)`` and column modes
``(1, s_1, ..., s_d)``; that of a fully connected layer has no window and begins at ``t_1``:

    K[x, t, s] = G_0[x, :] G_1[:, t_1, s_1, :] ... G_d[:, t_d, s_d, :].

A layer runs in one of two ways. By cores: the window filters every channel by itself, and each core mixes one digit of
the channels. Dense: the kernel is contracted first, and the layer is an ordinary one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from polyadic.schema.conv_spec import ConvSpec

Way = Literal["auto", "cores", "dense"]


class Step(NamedTuple):
    """One product of a pass by cores, for one sample.

    Attributes:
        macs: multiply-accumulates.
        numbers: what it leaves behind.
    """

    macs: int
    numbers: int


@dataclass(frozen=True)
class TTSpec:
    """One tensor-train layer.

    Attributes:
        dense: geometry of the layer that it stands for, of one group.
        row_modes: ``t_1 ... t_d`` with product T or more; what is more is padding, and cut off.
        column_modes: ``s_1 ... s_d`` with product S or more; what is more is fed with zeros.
        ranks: ``r_0 ... r_{d-1}`` for a window of several taps, ``r_1 ... r_{d-1}`` otherwise.
        way: how it runs; "auto" measures (see :class:`polyadic.layers.TTLayer`).
    """

    dense: ConvSpec
    row_modes: tuple[int, ...]
    column_modes: tuple[int, ...]
    ranks: tuple[int, ...]
    way: Way = "auto"

    def __post_init__(self) -> None:
        """Refuse modes and ranks that do not fit the layer."""
        d = len(self.row_modes)
        spec, bonds = self.dense, d if self.windowed else d - 1
        fits = d >= 1 and len(self.column_modes) == d and min(*self.row_modes, *self.column_modes) >= 1
        fits = fits and math.prod(self.row_modes) >= spec.out_channels
        if not fits or math.prod(self.column_modes) < spec.in_channels:
            raise ValueError(
                f"row modes multiply to T = {spec.out_channels} or more, as many column modes to S = "
                f"{spec.in_channels} or more; got {self.row_modes} and {self.column_modes}"
            )
        if len(self.ranks) != bonds or min(self.ranks, default=1) < 1:
            raise ValueError(f"modes {self.row_modes} x {self.column_modes} take {bonds} ranks; got {self.ranks}")
        if spec.groups != 1:
            raise ValueError(f"a tensor-train layer has one group of channels; got groups = {spec.groups}")
        _ = self.cheaper  # found now: torch.compile cannot enter the lock that cached_property takes the first time

    @property
    def windowed(self) -> bool:
        """Whether there is a core for the window."""
        return self.dense.taps > 1

    @property
    def moves(self) -> bool:
        """Whether positions change though the window has one tap: by a stride or by padding."""
        spec = self.dense
        padded = spec.padding != "same" and any(spec.padding)
        return not self.windowed and (padded or any(step != 1 for step in spec.stride) or any(spec.output_padding))

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """``r_{k-1} x t_k x s_k x r_k``, the window as a mode ``D^2 x 1`` first."""
        rows = (self.dense.taps, *self.row_modes) if self.windowed else self.row_modes
        columns = (1, *self.column_modes) if self.windowed else self.column_modes
        bonds = (1, *self.ranks, 1)
        return tuple(zip(bonds[:-1], rows, columns, bonds[1:], strict=True))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """All cores one after the other, as one row of numbers."""
        return (sum(math.prod(shape) for shape in self.core_shapes),)

    @property
    def params(self) -> int:
        """Numbers in the cores, and the bias."""
        return self.weight_shape[0] + (self.out_channels if self.bias else 0)

    @property
    def in_channels(self) -> int:
        """S."""
        return self.dense.in_channels

    @property
    def out_channels(self) -> int:
        """T."""
        return self.dense.out_channels

    @property
    def groups(self) -> int:
        """One."""
        return 1

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return self.dense.axes

    @property
    def bias(self) -> bool:
        """Whether a bias of T numbers is added."""
        return self.dense.bias

    def output_size(self, input_size: tuple[int, ...]) -> tuple[int, ...]:
        """Size along every spatial axis after the layer."""
        return self.dense.output_size(input_size)

    def macs(self, input_size: tuple[int, ...]) -> int:
        """Multiply-accumulates for one sample, in the way chosen; "auto" counts the way that takes fewer.

        The contraction of the kernel is not counted: it is done once, not for every sample.
        """
        by_cores = sum(step.macs for step in self.steps(input_size)) if self.way != "dense" else 0
        dense = self.dense.macs(input_size)
        return {"cores": by_cores, "dense": dense, "auto": min(by_cores, dense)}[self.way]

    def steps(self, input_size: tuple[int, ...]) -> tuple[Step, ...]:
        """The products of a pass by cores, in their order, for one sample of ``input_size``."""
        return self._steps(input_size, self.window_first)

    @cached_property
    def window_first(self) -> bool:
        """Whether a pass by cores begins at the first core; otherwise it begins at the last one.

        Both give the same answer. Which takes fewer operations depends on the modes, and on the stride, since the
        cores of the channels work on the output's positions in the one order and on the input's in the other.
        """
        forward, backward = (sum(step.macs for step in self._steps(self._usual, first)) for first in (True, False))
        return forward <= backward

    @cached_property
    def cheaper(self) -> Way:
        """The way of fewer multiply-accumulates, for an input of usual size."""
        by_cores = sum(step.macs for step in self.steps(self._usual))
        return "cores" if by_cores < self.dense.macs(self._usual) else "dense"

    @property
    def _usual(self) -> tuple[int, ...]:
        """A size at which the edges do not matter much."""
        return tuple(16 * step * window for step, window in zip(self.dense.stride, self.dense.kernel, strict=True))

    def _steps(self, input_size: tuple[int, ...], first: bool) -> tuple[Step, ...]:
        before, after = math.prod(input_size), math.prod(self.output_size(input_size))
        cores, window = self.core_shapes, []
        if self.windowed or self.moves:
            taps, rank = (self.dense.taps, cores[0][3]) if self.windowed else (1, 1)
            channels = math.prod(self.column_modes) if first else self.out_channels
            met = before if self.dense.transposed else after
            window = [Step(channels * rank * taps * met, channels * (rank if first else 1) * after)]
            cores = cores[1:] if self.windowed else cores
        positions = after if first else before
        mixed = []
        done, left = 1, math.prod(self.column_modes)
        for r, t, s, q in cores if first else reversed(cores):
            left //= s
            rest = done * left * positions
            mixed.append(Step(r * t * s * q * rest, t * (q if first else r) * rest))
            done *= t
        return (*window, *mixed) if first else (*mixed, *window)

    def in_way(self, way: Way) -> TTSpec:
        """The same layer, run as asked."""
        return replace(self, way=way)
