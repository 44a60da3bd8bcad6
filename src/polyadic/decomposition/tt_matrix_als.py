r"""Refinement of a matrix tensor train at its ranks, in the plain norm or in that of the inputs.

For inputs with second moment ``Sigma`` (N x N) the error to lower is ``||(W - W^) Sigma^(1/2)||``. A matrix over all
columns does not split over their digits, so ``W Sigma^(1/2)`` cannot be decomposed in the place of ``W``. But around
any ``Y``, with ``l`` the largest eigenvalue of ``Sigma``,

    ||(W - W^) Sigma^(1/2)||^2  <=  l ||Z - W^||^2 + terms free of W^,     Z = Y + (W - Y) Sigma / l,

with equality at ``W^ = Y`` (majorisation; Hunter and Lange 2004). ``Sigma`` need not split in any way. Each step is one
ALS sweep towards ``Z``, in the plain norm. From ``Y = W^`` it cannot raise the weighted error; ``Y`` is extrapolated as
Nesterov (1983) does, and a step that raises the error is taken back and made again without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain, TTMatrixTensor
from polyadic.decomposition.solution import Solution, StopReason, checked, relative_error
from polyadic.decomposition.tt_als import TTALSOptions, sweep, tt_als
from polyadic.decomposition.tt_matrix import of_matrix, rearrange
from polyadic.errors import DecompositionError

WEIGHTED = TTALSOptions(max_sweeps=100, tolerance=1e-4)
"""Steps in the norm of the inputs are smaller than sweeps in the plain one."""


def tt_matrix_als(
    W: Tensor, start: TTMatrixTensor, root: Tensor | None = None, options: TTALSOptions | None = None
) -> Solution[TTMatrixTensor]:
    """``W`` (M x N) as a matrix tensor train with the modes and ranks of ``start``, no farther from W than ``start``.

    Args:
        W: the matrix.
        start: :func:`polyadic.decomposition.tt_matrix` gives a good one.
        root: ``Sigma^(1/2)``, N x N, of the inputs; the plain norm when absent. ``history`` is then that of
            ``||(W - W^) Sigma^(1/2)|| / ||W Sigma^(1/2)||``; ``relative_error`` is in the plain norm always. Any root
            serves that has ``root root' = Sigma``.
        options: when to stop; 20 sweeps by default, and 100 steps where ``root`` is given.

    Raises:
        DecompositionError: NaN or Inf, a start of another shape, of fewer than two modes or not finite, a root of
            another size or not finite.
    """
    rows, columns = start.row_modes, start.column_modes
    X = rearrange(checked(W, "tt_matrix_als", order=2).to(W.dtype), rows, columns)
    if root is None:
        return of_matrix(tt_als(X, start.train(), options), rows, columns)
    N = W.shape[1]
    if root.shape != (N, N) or not bool(torch.isfinite(root).all()):
        raise DecompositionError(
            f"the inputs of a {W.shape[0]} x {N} matrix are weighed by a finite root {N} x {N}; got {tuple(root.shape)}"
        )
    if not all(bool(torch.isfinite(G).all()) for G in start.cores):
        raise DecompositionError("tt_matrix_als starts from finite cores; got NaN or Inf")
    return _weighted(W, start, root.detach(), options or WEIGHTED)


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

    begun = TensorTrain(tuple(G.detach().to(K) for G in start.train().cores))
    train = begun.scaled(1.0 / size if size > 0 else 1.0).left_orthogonal()
    now = matrix(train)
    error, momentum, stop = weighted_error(now), 1.0, StopReason.MAX_SWEEPS
    Y, history = now, list[float]()
    while len(history) < options.max_sweeps:
        towards = rearrange(Y + (K - Y) @ descent, start.row_modes, start.column_modes)
        tried = sweep(towards, train)
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
