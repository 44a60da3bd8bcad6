r"""Tucker-2 of a kernel with given ranks by orthogonal iteration (HOOI; De Lathauwer et al. 2000; Phan et al. 2020).

``K ~ G x_2 U x_3 V`` with orthonormal ``U`` (S x R1), ``V`` (T x R2) and ``G = K x_2 U' x_3 V'`` (ECCV, Lemma 2), so
the squared error is ``||K||^2 - ||G||^2``. With V fixed, the best U holds leading eigenvectors of

    Q1 = sum_d (K_d V)(K_d V)'      (S x S),

and the sum of its R1 leading eigenvalues is ``||G||^2``. An update costs ``2 D^2 S T R2 + 2 D^2 S^2 R2`` operations and
one S x S eigendecomposition. Ranks from an error bound, and those of every budget, are in
:mod:`polyadic.decomposition.tucker2_ranks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import Tucker2Tensor, gram, mode_product, unfold
from polyadic.decomposition.solution import Solution, StopReason, check_tensor, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class Tucker2Options:
    """How long U and V are alternated, and how many pairs of ranks are tried.

    Attributes:
        max_sweeps: most updates of the pair (U, V) at given ranks.
        tolerance: stop when ``||G||^2`` grows by less than this fraction.
        grid: R1 is first tried at about this many values, then around the cheapest.
        frontier_points: how many points of a frontier are refined.
    """

    max_sweeps: int = 50
    tolerance: float = 1e-8
    grid: int = 24
    frontier_points: int = 48

    def __post_init__(self) -> None:
        if self.grid < 1 or self.frontier_points < 1:
            raise DecompositionError(
                f"R1 is tried at one value at least, and a frontier refined at one point; got grid = {self.grid} and "
                f"frontier_points = {self.frontier_points}"
            )


def tucker2(K: Tensor, ranks: tuple[int, int], options: Tucker2Options | None = None) -> Solution[Tucker2Tensor]:
    """Tucker-2 of ``K`` (D^2 x S x T) with a core D^2 x R1 x R2, by orthogonal iteration (HOOI) from its HOSVD.

    Source: De Lathauwer, De Moor and Vandewalle 2000; Phan et al. 2020, eq. 14.

    Args:
        K: the kernel.
        ranks: (R1, R2), of the input and of the output side.
        options: when to stop.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, ranks outside 1 ... S and 1 ... T.

    Example:
        >>> K = torch.randn(9, 8, 12, generator=torch.Generator().manual_seed(0))  # D^2 x S x T
        >>> solution = tucker2(K, (4, 6))
        >>> G, U, V = solution.factors.tensors()
        >>> tuple(G.shape), tuple(U.shape), tuple(V.shape)
        ((9, 4, 6), (8, 4), (12, 6))
        >>> round(solution.relative_error, 2), solution.factors.parameters
        (0.71, 320)
    """
    options = options or Tucker2Options()
    X = check_tensor(K, "tucker2", order=3)
    D2, S, T = X.shape
    if not (1 <= ranks[0] <= S and 1 <= ranks[1] <= T):
        raise DecompositionError(
            f"tucker2 ranks (R1, R2) lie in 1 ... {S} and 1 ... {T} for a kernel {D2} x {S} x {T}; got {ranks}"
        )
    U, V = (spectrum(mode_gram(X, mode))[1][:, :rank] for mode, rank in zip((1, 2), ranks, strict=True))
    energy, stop, sweeps = -1.0, StopReason.MAX_SWEEPS, 0
    while sweeps < options.max_sweeps:
        sweeps += 1
        U = spectrum(mode_gram(mode_product(X, V.mT, 2), 1))[1][:, : ranks[0]]
        values, vectors = spectrum(mode_gram(mode_product(X, U.mT, 1), 2))
        V = vectors[:, : ranks[1]]
        previous, energy = energy, float(values[: ranks[1]].sum())  # = ||G||^2
        if energy - previous <= options.tolerance * energy:
            stop = StopReason.CONVERGED
            break
    return from_bases(K, X, U, V, stop, sweeps)


def mode_gram(X: Tensor, mode: int) -> Tensor:
    """``X_(mode) X_(mode)'``, square in the mode's own size: the wide unfolding is never decomposed."""
    return gram(unfold(X, mode).mT)


def spectrum(Q: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (largest first, not below 0) and eigenvectors of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(Q)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


def from_bases(K: Tensor, X: Tensor, U: Tensor, V: Tensor, stop: StopReason, sweeps: int) -> Solution[Tucker2Tensor]:
    """The Tucker-2 of ``K`` (``X`` in float64) with these bases, its best core and its measured error."""
    G = mode_product(mode_product(X, U.mT, 1), V.mT, 2)
    result = Tucker2Tensor(G, U, V).to(K)
    return Solution(result, relative_error(K, result), stop, sweeps)
