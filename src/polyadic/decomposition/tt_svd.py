r"""TT-SVD: a tensor as a tensor train, by one SVD for each cut (Oseledets, SISC 33(5), 2011, algorithm 1).

The remainder is reshaped to (r_{k-1} I_k) x (I_{k+1} ... I_d), its leading left singular vectors are core k, and what
they leave of it goes on. At given ranks ``||X - X^|| <= sqrt(d - 1) ||X - best||`` (corollary 2.4).

Of a wide remainder ``C`` only left vectors are needed: they are those of the triangle of ``C' = Q L'``, so ``Q`` and
the right vectors are never formed, and no digit is lost as it would be in the eigenvectors of ``C C'``. Nothing larger
than the tensor is held, and of its size the tensor in float64, one remainder and one transposed copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain
from polyadic.decomposition.solution import Solution, StopReason, check_tensor, relative_error
from polyadic.decomposition.tt_rounding import ROUNDING, Rule, smallest_rank, tail_energies, truncate_within
from polyadic.errors import DecompositionError


def tt_svd(X: Tensor, ranks: Sequence[int]) -> Solution[TensorTrain]:
    """``X`` (I_1 x ... x I_d) as a train of the given ranks ``r_1 ... r_{d-1}`` (Oseledets 2011, algorithm 1).

    Raises:
        DecompositionError: NaN or Inf, an order below 2, a rank outside ``1 ... min(r_{k-1} I_k, I_{k+1} ... I_d)``.

    Example:
        >>> X = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
        >>> solution = tt_svd(X, (3, 4))
        >>> [tuple(G.shape) for G in solution.factors.cores]
        [(1, 4, 3), (3, 5, 4), (4, 6, 1)]
        >>> round(solution.relative_error, 2)
        0.46
    """
    tensor = _check_order(X)
    _check_ranks(ranks, tuple(X.shape))
    train = _cut(tensor, lambda cut, tail, lost: ranks[cut])
    result = train.with_equal_norms().to(X)
    return Solution(result, relative_error(X, result), StopReason.CLOSED_FORM)


def tt_svd_bounded(X: Tensor, error: float, weights: Sequence[float] | None = None) -> Solution[TensorTrain]:
    """The cheapest train found of ``X`` (I_1 x ... x I_d) with relative error at most ``error``.

    An exact train, then :func:`polyadic.decomposition.tt_round` of it.

    Args:
        X: a tensor of order 2 or more.
        error: bound on ``||X - X^|| / ||X||``, from 0 to below 1, for the cores in float64: cores that are handed
            over in a shorter type add what it rounds off.
        weights: price of ``r_{k-1} r_k`` in core k; the size of mode k by default, so that the price is the number of
            parameters.

    Raises:
        DecompositionError: NaN or Inf, an order below 2, a bound outside [0, 1), weights that are not d positive
            numbers.
    """
    tensor = _check_order(X)
    norm = float(tensor.norm())
    noise = (ROUNDING / 10 * norm) ** 2 / (X.ndim - 1)
    exact = _cut(tensor, lambda cut, tail, lost: smallest_rank(tail, noise))
    train = truncate_within(exact.right_orthogonal(), norm, error, weights)
    result = train.with_equal_norms().to(X)
    return Solution(result, relative_error(X, result), StopReason.CLOSED_FORM)


def _cut(X: Tensor, rule: Rule) -> TensorTrain:
    """Left-orthogonal cores, each of the rank that ``rule`` says."""
    cores: list[Tensor] = []
    C, r, lost = X, 1, 0.0
    for cut, size in enumerate(X.shape[:-1]):
        C = C.reshape(r * size, -1)
        U, s = _left_singular(C)
        tail = tail_energies(s)
        rank = rule(cut, tail, lost)
        lost += float(tail[rank])
        U = U[:, :rank]
        cores.append(U.reshape(r, size, rank))
        C, r = U.mT @ C, rank
    return TensorTrain((*cores, C.reshape(r, X.shape[-1], 1)))


def _left_singular(C: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors and singular values of ``C``, by way of the triangle where C is wide."""
    if C.shape[0] < C.shape[1]:
        C = torch.linalg.qr(C.mT, mode="r").R.mT
    U, s, _ = torch.linalg.svd(C, full_matrices=False)
    return U, s


def _check_order(X: Tensor) -> Tensor:
    if X.ndim < 2:
        raise DecompositionError(f"a tensor train cuts between modes: an order of 2 or more; got {tuple(X.shape)}")
    return check_tensor(X, "tt_svd", order=X.ndim)


def _check_ranks(ranks: Sequence[int], shape: tuple[int, ...]) -> None:
    if len(ranks) != len(shape) - 1:
        raise DecompositionError(f"a train of shape {shape} has {len(shape) - 1} ranks; got {tuple(ranks)}")
    right, before = 1, 1
    for size in shape:
        right *= size
    for k, (size, rank) in enumerate(zip(shape[:-1], ranks, strict=True), start=1):
        right //= size
        if not 1 <= rank <= min(before * size, right):
            raise DecompositionError(
                f"rank {k} of a train of shape {shape} lies in 1 ... min(r_{k - 1} I_{k}, I_{k + 1} ... I_d) = "
                f"{min(before * size, right)}; got {tuple(ranks)}: see largest_tt_ranks"
            )
        before = rank
