"""Matrix tensor train: TT-conv with tensorised channels (Garipov et al. 2016) and TT-FC (Novikov et al., NIPS 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from polyadic.algebra import TTMatrixTensor, covering_modes, largest_tt_ranks
from polyadic.decomposition import InputNorm, Solution, tt_matrix, tt_matrix_als
from polyadic.decomposition.tt_matrix import rearrange
from polyadic.errors import LayerError
from polyadic.formats.format import Format
from polyadic.formats.tt_ranks import tt_candidate_ranks, tt_energies_left, usable_ranks, widen_ranks
from polyadic.schema import ConvSpec, Rank, TTSpec


@final
@dataclass(frozen=True)
class TTMatrixFormat(Format):
    """``K[x, t, s] = G_0[x] G_1[t_1, s_1] ... G_d[t_d, s_d]`` with rank (r_0 ... r_{d-1}), without r_0 for one tap.

    Channels are counted in digits. Unless modes are given, there are as many digits as make modes of about 5 (2 to 4
    digits), and :func:`polyadic.algebra.covering_modes` finds them; channels that only the padded modes have are zeros.

    Attributes:
        row_modes: ``t_1 ... t_d`` with product T or more.
        column_modes: ``s_1 ... s_d`` with product S or more.
    """

    repeatable: ClassVar[bool] = False

    row_modes: tuple[int, ...] | None = None
    column_modes: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """tt-matrix, with the modes if they are given: ``tt-matrix[4x8x4,4x4x4]``, rows first."""
        if self.row_modes is None or self.column_modes is None:
            return "tt-matrix"
        return "tt-matrix[{},{}]".format(*("x".join(map(str, modes)) for modes in (self.row_modes, self.column_modes)))

    def objection(self, spec: ConvSpec) -> str | None:
        """Layers with too few channels, modes that do not cover the channels."""
        if (self.row_modes is None) != (self.column_modes is None):
            return "a matrix tensor train takes modes for rows and columns, or for neither"
        if self.row_modes is None and min(spec.in_channels, spec.out_channels) < 4:
            return f"{spec.in_channels} and {spec.out_channels} channels are too few to be counted in several digits"
        rows, columns = self.modes(spec)
        if not rows or len(rows) != len(columns) or min(*rows, *columns) < 1:
            return f"a matrix tensor train has as many row modes as column modes; got {rows} and {columns}"
        if len(rows) == 1 and spec.taps == 1:
            return "a matrix tensor train of one core is the matrix itself"
        if math.prod(rows) < spec.out_channels or math.prod(columns) < spec.in_channels:
            return (
                f"row modes multiply to T = {spec.out_channels} or more, column modes to S = {spec.in_channels} or "
                f"more; got {rows} and {columns}"
            )
        return None

    def modes(self, spec: ConvSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Row and column modes for a layer."""
        if self.row_modes is not None and self.column_modes is not None:
            return self.row_modes, self.column_modes
        digits = round(0.5 * math.log(spec.in_channels * spec.out_channels, 5))
        digits = min(max(digits, 2), 4)
        return covering_modes(spec.out_channels, digits), covering_modes(spec.in_channels, digits)

    def full_rank(self, spec: ConvSpec) -> Rank:
        """For each bond the product of all modes on its smaller side."""
        rows, columns = self._all_modes(spec)
        return largest_tt_ranks(_products(rows, columns))

    def chain(self, spec: ConvSpec, rank: Rank) -> tuple[TTSpec]:
        """One layer."""
        return (TTSpec(spec, *self.modes(spec), rank),)

    def rising_ranks(self, kernel: Tensor, spec: ConvSpec) -> list[Rank]:
        """The cheapest ranks for falling errors, as TT-SVD promises them."""
        return tt_candidate_ranks(rearrange(self._matrix(kernel.double(), spec), *self._all_modes(spec)))

    def energies_left(self, kernel: Tensor, spec: ConvSpec, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
        """Between the largest and the sum of what the bonds leave (Oseledets 2011, theorem 2.2)."""
        return tt_energies_left(rearrange(self._matrix(kernel.double(), spec), *self._all_modes(spec)), ranks)

    def solve(self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int) -> Solution[TTMatrixTensor]:
        """TT-SVD of the rearranged matrix, then alternating least squares at its ranks."""
        W = self._matrix(kernel, spec)
        rows, columns = self._all_modes(spec)
        start = tt_matrix(W, rows, columns, ranks=usable_ranks(rank, _products(rows, columns)))
        return tt_matrix_als(W, start.factors)

    def solve_in(
        self, kernel: Tensor, spec: ConvSpec, rank: Rank, seed: int, norm: InputNorm
    ) -> tuple[Solution[TTMatrixTensor], float]:
        """The train in the norm of the inputs, found from the plain one (its digits couple in that norm)."""
        W, start = self._matrix(kernel.double(), spec), self.solve(kernel.double(), spec, rank, seed).factors
        root = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
        S = spec.in_channels
        root[:S, :S] = norm.channels.root
        solution = tt_matrix_als(W, start, root)
        return solution, solution.history[-1] if solution.history else 0.0

    def parts(self, factors: TTMatrixTensor, spec: ConvSpec, rank: Rank) -> tuple[Tensor, ...]:
        """All cores in one row; ranks that the kernel did not need are filled with zeros."""
        return (torch.cat([G.flatten() for G in widen_ranks(factors.train(), rank).cores]),)

    def _all_modes(self, spec: ConvSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Row and column modes with that of the window."""
        rows, columns = self.modes(spec)
        return ((spec.taps, *rows), (1, *columns)) if spec.taps > 1 else (rows, columns)

    def _matrix(self, kernel: Tensor, spec: ConvSpec) -> Tensor:
        """The kernel as a (D^2 rows) x columns matrix, with zeros where the modes have more than the layer."""
        rows, columns = (math.prod(modes) for modes in self.modes(spec))
        W = kernel.new_zeros(spec.taps, rows, columns)
        W[:, : spec.out_channels, : spec.in_channels] = kernel.reshape(*kernel.shape[:2], spec.taps).permute(2, 0, 1)
        return W.flatten(0, 1)


def _products(rows: tuple[int, ...], columns: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(m * n for m, n in zip(rows, columns, strict=True))


def parse_modes(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Row and column modes from ``4x8x4,4x4x4``.

    Raises:
        LayerError: something else.
    """
    try:
        rows, columns = (tuple(int(part) for part in side.split("x")) for side in text.split(","))
    except ValueError as error:
        raise LayerError(f"modes are written 4x8x4,4x4x4, rows first; got {text!r}") from error
    return rows, columns
