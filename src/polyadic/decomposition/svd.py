"""Truncated singular value decomposition: the best approximation of a matrix at a rank (Eckart and Young 1936).

A large matrix X (L x N, L <= N; others are transposed) is not decomposed itself. With the leading eigenvectors U of
``X X'`` (L x L) the best approximation is ``U (U' X)``, whatever rounding did to the small eigenvalues: ``L^2 N``
products and one symmetric eigenproblem, two to eleven times less than an SVD. X is read in slices, so that it is never
held in float64 as a whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polyadic.algebra import LowRank
from polyadic.decomposition.solution import Solution, StopReason, check_entries, relative_error
from polyadic.errors import DecompositionError

_LARGE = 2**22  # entries: all layers of ResNet-18 and of the networks for CIFAR are smaller
_SLICE = 2048  # columns
_ROUNDING = 1e-16  # of the largest eigenvalue of a Gram matrix


def truncated_svd(M: Tensor, rank: int) -> Solution[LowRank]:
    """``M`` (rows x columns) as ``P Q`` of rank ``rank``, each side carrying the root of the singular values.

    Raises:
        DecompositionError: NaN or Inf, not a matrix, a rank outside 1 ... min(rows, columns).
    """
    check_entries(M, "truncated_svd", order=2)
    if not 1 <= rank <= min(M.shape):
        raise DecompositionError(
            f"an SVD rank lies in 1 ... {min(M.shape)} for a {M.shape[0]} x {M.shape[1]} matrix; got {rank}"
        )
    if M.numel() > _LARGE:
        return _by_gram(M, rank)
    U, s, Vh = torch.linalg.svd(M.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    result = LowRank(U[:, :rank] * root, root[:, None] * Vh[:rank]).to(M)
    return Solution(result, relative_error(M, result), StopReason.CLOSED_FORM)


def singular_values(M: Tensor) -> Tensor:
    """All singular values of ``M`` in float64, largest first; of a large one those below 1e-8 of the first are rough.

    Raises:
        DecompositionError: NaN or Inf, not a matrix.
    """
    check_entries(M, "singular_values", order=2)
    if M.numel() <= _LARGE:
        values: Tensor = torch.linalg.svdvals(M.detach().double())
        return values
    squares: Tensor = torch.linalg.eigvalsh(_gram_of_rows(_wide(M))).flip(0).clamp_min(0.0)
    return squares.sqrt()


def _wide(M: Tensor) -> Tensor:
    return M.detach() if M.shape[0] <= M.shape[1] else M.detach().mT


def _gram_of_rows(X: Tensor) -> Tensor:
    """``X X'`` in float64."""
    G = torch.zeros(X.shape[0], X.shape[0], dtype=torch.float64, device=X.device)
    for start in range(0, X.shape[1], _SLICE):
        columns = X[:, start : start + _SLICE].double()
        G.addmm_(columns, columns.mT)
    return G


def _by_gram(M: Tensor, rank: int) -> Solution[LowRank]:
    X = _wide(M)
    values, vectors = torch.linalg.eigh(_gram_of_rows(X))
    U = vectors.flip(1)[:, :rank].contiguous()
    e = values.flip(0)[:rank]
    e = e.clamp_min(_ROUNDING * float(e[0])) if float(e[0]) > 0 else torch.ones_like(e)
    root = e.sqrt().sqrt()  # how the two sides share the scale: U (U' X) stands for any root
    left = (U * root).to(M)
    right = torch.empty(rank, X.shape[1], dtype=M.dtype, device=M.device)
    squared_error = squared_norm = 0.0
    for start in range(0, X.shape[1], _SLICE):
        columns = X[:, start : start + _SLICE].double()
        right[:, start : start + _SLICE] = U.mT @ columns / root[:, None]
        squared_norm += float(columns.square().sum())
        missing = columns - left.double() @ right[:, start : start + _SLICE].double()
        squared_error += float(missing.square().sum())
    result = LowRank(left, right) if X.shape == M.shape else LowRank(right.mT, left.mT)
    if not result.is_finite():
        raise DecompositionError(f"the factors of this matrix leave the range of {M.dtype}: decompose it in float32")
    error = math.sqrt(squared_error / squared_norm) if squared_norm > 0 else math.sqrt(squared_error)
    return Solution(result, error, StopReason.CLOSED_FORM)
