r"""A matrix as a matrix tensor train, by TT-SVD of its rearranged entries (Oseledets 2010; Novikov et al. 2015).

``W`` (M x N) becomes the tensor of order d with modes ``m_k n_k`` whose entry at ``(i_1, j_1), ..., (i_d, j_d)`` is
``W[i, j]``, digits counted in row-major order (:class:`polyadic.algebra.TTMatrixTensor`). Its tensor train is that of
the matrix, with the same error, since both hold the same numbers.

A convolution kernel is such a matrix, too (Garipov et al. 2016): as ``(D^2 T) x S`` with row modes ``(D^2, t_1, ...,
t_d)`` and column modes ``(1, s_1, ..., s_d)``.

**Refinement** keeps the ranks and lowers the error, in the plain norm or in that of the inputs. For inputs with second
moment ``Sigma`` (N x N) the error to lower is ``||(W - W^) Sigma^(1/2)||``. A matrix over all columns does not split
over their digits, so ``W Sigma^(1/2)`` cannot be decomposed in the place of ``W``. But around any ``Y``, with ``l`` the
largest eigenvalue of ``Sigma``,

    ||(W - W^) Sigma^(1/2)||^2  <=  l ||Z - W^||^2 + terms free of W^,     Z = Y + (W - Y) Sigma / l,

with equality at ``W^ = Y`` (majorisation; Hunter and Lange 2004). ``Sigma`` need not split in any way. Each step is one
ALS sweep towards ``Z``, in the plain norm. From ``Y = W^`` it cannot raise the weighted error; ``Y`` is extrapolated as
Nesterov (1983) does, and a step that raises the error is taken back and made again without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain, TTMatrixTensor
from polyadic.decomposition.solution import Solution, StopReason, check_tensor, relative_error
from polyadic.decomposition.tt_als import TTALSOptions, sweep_cores, tt_als
from polyadic.decomposition.tt_rounding import tt_round
from polyadic.decomposition.tt_svd import tt_svd, tt_svd_bounded
from polyadic.errors import DecompositionError

WEIGHTED = TTALSOptions(max_sweeps=100, tolerance=1e-4)
"""Steps in the norm of the inputs are smaller than sweeps in the plain one."""


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


def tt_matrix_als(
    W: Tensor, start: TTMatrixTensor, root: Tensor | None = None, options: TTALSOptions | None = None
) -> Solution[TTMatrixTensor]:
    """``W`` (M x N) as a matrix tensor train with the modes and ranks of ``start``, no farther from W than ``start``.

    Args:
        W: the matrix.
        start: :func:`tt_matrix` gives a good one.
        root: ``Sigma^(1/2)``, N x N, of the inputs; the plain norm when absent. ``history`` is then that of
            ``||(W - W^) Sigma^(1/2)|| / ||W Sigma^(1/2)||``; ``relative_error`` is in the plain norm always. Any root
            serves that has ``root root' = Sigma``.
        options: when to stop; 20 sweeps by default, and 100 steps where ``root`` is given.

    Raises:
        DecompositionError: NaN or Inf, a start of another shape, of fewer than two modes or not finite, a root of
            another size or not finite.
    """
    rows, columns = start.row_modes, start.column_modes
    X = rearrange(check_tensor(W, "tt_matrix_als", order=2).to(W.dtype), rows, columns)
    if root is None:
        return of_matrix(tt_als(X, start.train(), options), rows, columns)
    N = W.shape[1]
    if root.shape != (N, N) or not bool(torch.isfinite(root).all()):
        raise DecompositionError(
            f"the inputs of a {W.shape[0]} x {N} matrix are weighed by a finite root {N} x {N}; got {tuple(root.shape)}"
        )
    if not start.is_finite():
        raise DecompositionError("tt_matrix_als starts from finite cores; got NaN or Inf")
    return _weighted(W, start, root.detach(), options or WEIGHTED)


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


def _weighted(W: Tensor, start: TTMatrixTensor, root: Tensor, options: TTALSOptions) -> Solution[TTMatrixTensor]:
    size = float(W.detach().double().norm())
    K = W.detach().double() / (size if size > 0 else 1.0)
    root = root.to(K)
    descent = root @ root.mT / (float(torch.linalg.matrix_norm(root, 2)) ** 2 or 1.0)  # Sigma / l
    reference = float((K @ root).norm()) or 1.0

    def matrix(train: TensorTrain) -> Tensor:
        return TTMatrixTensor.of(train, start.row_modes, start.column_modes).full()

    def weighted_error(approximation: Tensor) -> float:
        return float(((K - approximation) @ root).norm()) / reference

    train = start.train().double().to(K).scaled(1.0 / size if size > 0 else 1.0).left_orthogonal()
    now = matrix(train)
    error, momentum, stop = weighted_error(now), 1.0, StopReason.MAX_SWEEPS
    Y, history = now, list[float]()
    while len(history) < options.max_sweeps:
        towards = rearrange(Y + (K - Y) @ descent, start.row_modes, start.column_modes)
        tried = sweep_cores(towards, train)
        reached = matrix(tried)
        fallen = error - weighted_error(reached)
        if fallen < 0 and momentum > 1.0:
            Y, momentum = now, 1.0
            history.append(error)
            continue
        if fallen <= options.tolerance * error:
            stop = StopReason.CONVERGED
        if fallen >= 0:
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            Y = reached + (momentum - 1) / following * (reached - now)
            train, now, error, momentum = tried, reached, error - fallen, following
        history.append(error)
        if stop is StopReason.CONVERGED:
            break
    result = TTMatrixTensor.of(train.scaled(size).with_equal_norms(), start.row_modes, start.column_modes).to(W)
    return Solution(result, relative_error(W, result), stop, len(history), tuple(history))
