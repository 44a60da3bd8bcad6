"""Truncated singular value decomposition: the best approximation of a matrix at a rank (Eckart and Young 1936)."""

from __future__ import annotations

import torch
from torch import Tensor

from polyadic.algebra import LowRank
from polyadic.decomposition.solution import Solution, StopReason, check_tensor, relative_error
from polyadic.errors import DecompositionError


def truncated_svd(M: Tensor, rank: int) -> Solution[LowRank]:
    """``M`` (rows x columns) as ``P Q`` of rank ``rank``, each side carrying the root of the singular values.

    Raises:
        DecompositionError: NaN or Inf, not a matrix, a rank outside 1 ... min(rows, columns).
    """
    X = check_tensor(M, "truncated_svd", order=2)
    if not 1 <= rank <= min(X.shape):
        raise DecompositionError(
            f"an SVD rank lies in 1 ... {min(X.shape)} for a {X.shape[0]} x {X.shape[1]} matrix; got {rank}"
        )
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    root = s[:rank].sqrt()
    result = LowRank(U[:, :rank] * root, root[:, None] * Vh[:rank]).to(M)
    return Solution(result, relative_error(M, result), StopReason.CLOSED_FORM)
