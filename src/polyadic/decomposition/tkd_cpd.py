"""TKD-CPD: Tucker-2, then stable CP of its core (Phan et al., ECCV 2020, section 2.4 and Fig. 1c).

``K ~ [[A, U B, V C]]`` with orthonormal U (S x R1), V (T x R2) and a CP of the core, ``G ~ [[A, B, C]]`` of rank R.
Because U and V are orthonormal the squared errors add,

    ||K - K^||^2 = (||K||^2 - ||G||^2) + ||G - G^||^2,

and it is the sensitivity of the core's factors that the correction controls.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.solution import Solution, Stability, checked, relative_error
from polyadic.decomposition.stable_cp import StableOptions, stable_cp
from polyadic.decomposition.tkd_split import calibrate, likely_ranks
from polyadic.decomposition.tucker2 import tucker2
from polyadic.decomposition.tucker2_bounded import tucker2_bounded
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class TuckerCP:
    """``K = [[A, U B, V C]]``.

    Attributes:
        core: CP of the core: A (D^2 x R), B (R1 x R), C (R2 x R).
        U: input side, S x R1, orthonormal columns.
        V: output side, T x R2, orthonormal columns.
    """

    core: CPTensor
    U: Tensor
    V: Tensor

    @property
    def ranks(self) -> tuple[int, int, int]:
        """(R1, R2, R)."""
        return int(self.U.shape[1]), int(self.V.shape[1]), self.core.rank

    @property
    def parameters(self) -> int:
        """``S R1 + T R2 + R (D^2 + R1 + R2)``: nothing merged."""
        return self.U.numel() + self.V.numel() + self.core.parameters

    def merged(self) -> CPTensor:
        """The CP of the whole kernel, [[A, U B, V C]]."""
        A, B, C = self.core.factors
        return CPTensor((A, self.U @ B, self.V @ C))

    def full(self) -> Tensor:
        """The tensor itself, D^2 x S x T."""
        return self.merged().full()

    def times_input(self, M: Tensor) -> TuckerCP:
        """``K x_S M``; U is orthonormal no more."""
        return TuckerCP(self.core, M @ self.U, self.V)

    def to(self, like: Tensor) -> TuckerCP:
        """The same factors in the dtype and on the device of ``like``."""
        return TuckerCP(self.core.to(like), self.U.to(like), self.V.to(like))


def tkd_cpd(
    K: Tensor,
    rank: int,
    *,
    ranks: tuple[int, int] | None = None,
    tucker_error: float | None = None,
    options: StableOptions | None = None,
    seed: int = 0,
) -> Solution[TuckerCP]:
    """Decompose ``K`` (D^2 x S x T) by Tucker-2 and its core by a stable CP of rank ``rank``.

    Args:
        K: the kernel.
        rank: CP rank R of the core.
        ranks: multilinear ranks (R1, R2); or
        tucker_error: bound on the relative error of the Tucker-2 part, which then finds (R1, R2) itself. With neither
            they are those of which the least error at equal weights is to be expected
            (:func:`polyadic.decomposition.tkd_split.likely_ranks`).
        options: of the stable CP.
        seed: of the stable CP.

    Raises:
        DecompositionError: NaN or Inf, both of ``ranks`` and ``tucker_error``, a rank or bound out of range.
    """
    if ranks is not None and tucker_error is not None:
        raise DecompositionError("tkd_cpd takes ranks (R1, R2) or a tucker_error bound, or neither; got both")
    X = checked(K, "tkd_cpd", order=3)
    if tucker_error is not None:
        outer = tucker2_bounded(X, tucker_error)
    else:
        outer = tucker2(X, likely_ranks(calibrate(X, rank, seed), rank) if ranks is None else ranks)
    core = stable_cp(outer.factors.G, rank, options, seed=seed)
    norm = float(X.norm())
    result = TuckerCP(core.factors, outer.factors.U, outer.factors.V).to(K)
    stability = Stability.of(result.core, norm)
    return Solution(result, relative_error(K, result), core.stop, core.sweeps, core.history, stability)
