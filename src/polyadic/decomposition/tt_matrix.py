r"""A matrix as a matrix tensor train, by TT-SVD of its rearranged entries (Oseledets 2010; Novikov et al. 2015).

``W`` (M x N) becomes the tensor of order d with modes ``m_k n_k`` whose entry at ``(i_1, j_1), ..., (i_d, j_d)`` is
``W[i, j]``, digits counted in row-major order (:class:`polyadic.algebra.TTMatrixTensor`). Its tensor train is that of
the matrix, with the same error, since both hold the same numbers.

A convolution kernel is such a matrix, too (Garipov et al. 2016): as ``(D^2 T) x S`` with row modes ``(D^2, t_1, ...,
t_d)`` and column modes ``(1, s_1, ..., s_d)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from polyadic.algebra import TensorTrain, TTMatrixTensor
from polyadic.decomposition.solution import Solution
from polyadic.decomposition.tt_rounding import tt_round
from polyadic.decomposition.tt_svd import tt_svd, tt_svd_bounded
from polyadic.errors import DecompositionError


def tt_matrix(
    W: Tensor,
    row_modes: Sequence[int],
    column_modes: Sequence[int],
    *,
    ranks: Sequence[int] | None = None,
    error: float | None = None,
    weights: Sequence[float] | None = None,
) -> Solution[TTMatrixTensor]:
    """``W`` (M x N) as a matrix tensor train of given ranks, or the cheapest found within a relative error.

    Args:
        W: the matrix.
        row_modes: ``m_1 ... m_d`` with product M, see :func:`polyadic.algebra.balanced_modes`.
        column_modes: ``n_1 ... n_d`` with product N.
        ranks: ``r_1 ... r_{d-1}``, at most :func:`polyadic.algebra.largest_tt_ranks` of the modes ``m_k n_k``.
        error: bound on ``||W - W^|| / ||W||``, from 0 to below 1, as in ``tt_svd_bounded``.
        weights: price of ``r_{k-1} r_k`` in core k, for ``error`` only; ``m_k n_k`` by default.

    Raises:
        DecompositionError: what ``tt_svd`` and ``tt_svd_bounded`` refuse, modes that do not multiply to M and N or are
            not two or more of each, both or neither of ``ranks`` and ``error``.
    """
    rows, columns = tuple(row_modes), tuple(column_modes)
    X = rearrange(W, rows, columns)
    if ranks is not None and error is None:
        solution = tt_svd(X, ranks)
    elif error is not None and ranks is None:
        solution = tt_svd_bounded(X, error, weights)
    else:
        raise DecompositionError(f"tt_matrix takes ranks or an error bound; got ranks = {ranks} and error = {error}")
    return of_matrix(solution, rows, columns)


def tt_matrix_round(
    W: TTMatrixTensor,
    *,
    ranks: Sequence[int] | None = None,
    error: float | None = None,
    weights: Sequence[float] | None = None,
) -> Solution[TTMatrixTensor]:
    """``W`` with smaller ranks, never forming the matrix; as :func:`polyadic.decomposition.tt_round`.

    Raises:
        DecompositionError: what ``tt_round`` refuses.
    """
    rounded = tt_round(W.train(), ranks=ranks, error=error, weights=weights)
    return of_matrix(rounded, W.row_modes, W.column_modes)


def rearrange(W: Tensor, row_modes: tuple[int, ...], column_modes: tuple[int, ...]) -> Tensor:
    """``W`` (M x N) as the tensor with modes ``m_k n_k``.

    Raises:
        DecompositionError: modes that do not multiply to M and N or are not two or more of each.
    """
    d = len(row_modes)
    paired = d >= 2 and len(column_modes) == d and min(*row_modes, *column_modes) >= 1
    if not paired or (math.prod(row_modes), math.prod(column_modes)) != tuple(W.shape):
        raise DecompositionError(
            "the modes of a matrix tensor train are two or more for the rows and as many for the columns, and multiply "
            f"to M and N; got {row_modes} and {column_modes} for shape {tuple(W.shape)}"
        )
    pairs = [axis for k in range(d) for axis in (k, d + k)]
    modes = [m * n for m, n in zip(row_modes, column_modes, strict=True)]
    return W.detach().reshape(*row_modes, *column_modes).permute(pairs).reshape(modes)


def of_matrix(
    solution: Solution[TensorTrain], row_modes: tuple[int, ...], column_modes: tuple[int, ...]
) -> Solution[TTMatrixTensor]:
    """The same solution with each mode split into row and column."""
    factors = TTMatrixTensor.of(solution.factors, row_modes, column_modes)
    return Solution(factors, solution.relative_error, solution.stop, solution.sweeps, solution.history)
