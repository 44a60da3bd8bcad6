r"""CP decomposition with low-rank factor matrices (Phan, Tichavsky, Sobolev, Sozykin, Ermilov, Cichocki, ICASSP 2021).

``K ~ [[A, B, C]]`` whose factor matrices have ranks ``r_A, r_B, r_C`` below both of their sizes, ``B = U_B B~`` with
orthonormal ``U_B`` (J x r_B) and a thin coefficient ``B~`` (r_B x R). A high CP rank R then costs ``J r_B + r_B R``
numbers in that mode, not ``J R``. The model is that of TKD-CPD, but the subspaces are fitted within the CP, not before.

Each factor is the exact minimiser with the others fixed, which is reduced-rank regression. Written for A, with
``G = K_(1) Z``, ``Gamma = Z'Z`` and the least-squares factor ``A_LS = G Gamma^(-1)``,

    ||K_(1) - A Z'||^2 = eps_min + tr (A_LS - A) Gamma (A_LS - A)',
    A_LS Gamma A_LS' = sum_k sigma_k^2 p_k p_k'      (I x I)
    A = P_r P_r' A_LS,      P_r = (p_1 ... p_r),     with the error   eps_min + sum_{k > r} sigma_k^2,

so one eigendecomposition (of size min(I, R)) tells the least error for *every* rank r: the rank may be given, or be the
smallest that keeps an error bound. With a sensitivity penalty, ``||K - K^||^2 + mu * sensitivity``, the same holds for
``Gamma + mu diag(w^2)``, ``w_r^2 = L ||b_r||^2 + J ||c_r||^2``.

Cost per sweep: three MTTKRPs, ``O(I J L R)``, and per mode ``O((I + R) min(I, R)^2 + R^3)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Factors, gram_product, mode_product, mttkrp
from polyadic.decomposition.alternation import solve_gram, unit_tensor
from polyadic.decomposition.cp_epc import EPCOptions, cp_epc, cp_epc_within
from polyadic.decomposition.solution import Solution, Stability, StopReason, check_rank, check_tensor, relative_error
from polyadic.decomposition.stable_cp import StableOptions, stable_cp
from polyadic.decomposition.tucker2 import tucker2
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class LowRankCP(Factors):
    """``K = [[U_A A, U_B B, U_C C]]``.

    Attributes:
        core: the thin CP: r_A x R, r_B x R, r_C x R.
        bases: I_n x r_n with orthonormal columns, or None where that mode's factor is the core's own (I_n x R).
    """

    core: CPTensor
    bases: tuple[Tensor | None, ...]

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """(r_A, r_B, r_C), None where the factor is not factorised."""
        return tuple(None if U is None else int(U.shape[1]) for U in self.bases)

    def merged(self) -> CPTensor:
        """The same tensor as a plain CP."""
        return CPTensor(tuple(F if U is None else U @ F for U, F in zip(self.bases, self.core.factors, strict=True)))

    def full(self) -> Tensor:
        """The tensor itself."""
        return self.merged().full()

    def times_input(self, M: Tensor) -> LowRankCP:
        """``K x_S M``; the basis of that mode is orthonormal no more."""
        A, B, *rest = self.core.factors
        U_A, U_B, *others = self.bases
        if U_B is None:
            return LowRankCP(CPTensor((A, M @ B, *rest)), self.bases)
        return LowRankCP(self.core, (U_A, M @ U_B, *others))


@dataclass(frozen=True)
class LowRankOptions:
    """How long the factors are alternated and what keeps them stable.

    Attributes:
        penalty: the sensitivity penalty ``mu`` is this share of the squared error of the start, divided by its
            sensitivity; 0 for plain least squares.
        max_sweeps: most sweeps.
        tolerance: stop when a sweep lowers the objective by less than this fraction of it.
        rounds: under an error bound, how often the ranks are lowered at most ...
        recovery: ... with this many sweeps in between ...
        share: ... each time by as much as this part of the error that the bound leaves over allows.
        start: of the stable CP that the sweeps begin at.
        epc: of the correction of the thin factors at the end; None leaves it out.
    """

    penalty: float = 0.05
    max_sweeps: int = 300
    tolerance: float = 1e-5
    rounds: int = 30
    recovery: int = 8
    share: float = 0.3
    start: StableOptions = field(default_factory=StableOptions)
    epc: EPCOptions | None = field(default_factory=lambda: EPCOptions(max_sweeps=100, tolerance=1e-5))

    def __post_init__(self) -> None:
        if not (self.penalty >= 0 and 0 < self.share <= 1 and min(self.max_sweeps, self.rounds, self.recovery) >= 1):
            raise DecompositionError(
                "a penalty is >= 0, a share above 0 and at most 1, and there is at least one sweep, round and sweep of "
                f"recovery; got {self.penalty}, {self.share} and {self.max_sweeps}, {self.rounds}, {self.recovery}"
            )


def cp_low_rank(
    K: Tensor,
    rank: int,
    ranks: tuple[int | None, int | None, int | None],
    options: LowRankOptions | None = None,
    *,
    seed: int = 0,
) -> Solution[LowRankCP]:
    """Fit ``K`` (I x J x L) by ``rank`` terms whose factor matrices have the given ranks.

    Args:
        K: the tensor.
        rank: CP rank R.
        ranks: (r_A, r_B, r_C); None leaves that factor as it is.
        options: how long, and how stable.
        seed: of the start.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a rank below 1, a factor rank outside 1 ... I_n.
    """
    options = options or LowRankOptions()
    X, norm = unit_tensor(check_tensor(K, "cp_low_rank", order=3))
    check_rank(rank)
    for size, r in zip(X.shape, ranks, strict=True):
        if r is not None and not 1 <= r <= size:
            raise DecompositionError(f"ranks of factor matrices lie in 1 ... {tuple(X.shape)} or are None; got {ranks}")
    J, L = int(X.shape[1]), int(X.shape[2])
    outer = tucker2(X, (ranks[1] or J, ranks[2] or L)).factors
    A, B, C = stable_cp(outer.G, rank, options.start, seed=seed).factors.factors
    sweeps = LowRankSweeps(X, CPTensor((A, outer.U @ B, outer.V @ C)), options, ranks)
    stop = sweeps.run(options.max_sweeps)
    return sweeps.solution(K, norm, stop)


def reduced_rank(G: Tensor, Gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pieces of every low-rank minimiser of ``tr A Gamma A' - 2 tr A G'``.

    Args:
        G: I x R.
        Gamma: R x R, symmetric, positive semidefinite.

    Returns:
        ``A_LS`` (I x R); ``P`` (I x m, orthonormal columns, m = min(I, R)) and ``sigma^2`` (m, largest first). The
        minimiser of rank r is ``P_r P_r' A_LS``, with the value ``-sum_{k <= r} sigma_k^2``.
    """
    A = solve_gram(Gamma, G)
    Q, T = torch.linalg.qr(A)  # A Gamma A' = Q (T Gamma T') Q': an eigendecomposition of size min(I, R), not I
    e, E = torch.linalg.eigh(T @ Gamma @ T.mT)
    return A, Q @ E.flip(1), e.flip(0).clamp_min(0.0)


class LowRankSweeps:
    """Factors (I_n x R) of a unit tensor, the ranks that they are held to, and the sweeps over them."""

    def __init__(self, X: Tensor, cp: CPTensor, options: LowRankOptions, ranks: tuple[int | None, ...]) -> None:
        self.X, self.cp, self.options, self.ranks = X, cp.rescaled(), options, ranks
        self.squared_error = relative_error(X, self.cp) ** 2
        sensitivity = float(self.cp.sensitivity())
        self.mu = options.penalty * self.squared_error / sensitivity if sensitivity > 0 else 0.0
        self.bases: tuple[Tensor | None, ...] = (None, None, None)
        self.history: list[float] = []

    def state(self) -> tuple[CPTensor, tuple[int | None, ...], tuple[Tensor | None, ...], float]:
        """What :meth:`restore` takes back."""
        return self.cp, self.ranks, self.bases, self.squared_error

    def restore(self, state: tuple[CPTensor, tuple[int | None, ...], tuple[Tensor | None, ...], float]) -> None:
        """Go back to where :meth:`state` was asked for; the history goes on."""
        self.cp, self.ranks, self.bases, self.squared_error = state

    def run(self, sweeps: int) -> StopReason:
        """Sweep until the objective ``||X - X^||^2 + mu * sensitivity`` stands still; it never rises."""
        previous = math.inf
        for _ in range(sweeps):
            self._sweep()
            objective = self.squared_error + self.mu * float(self.cp.sensitivity())
            if previous - objective <= self.options.tolerance * objective:
                return StopReason.CONVERGED
            previous = objective
        return StopReason.MAX_SWEEPS

    def update(self, mode: int, factors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """``P``, ``P' A_LS`` and the squared errors of rank 1, 2, ... for one factor with the others fixed."""
        squares = torch.stack([U.square().sum(0) for U in factors])
        j, k = (m for m in range(3) if m != mode)
        w2 = self.X.shape[k] * squares[j] + self.X.shape[j] * squares[k]
        G, Gamma = mttkrp(self.X, factors, mode), gram_product(factors, mode)
        A, P, sigma2 = reduced_rank(G, Gamma + torch.diag(self.mu * w2))
        PtA = P.mT @ A
        # tr A Gamma A' - 2 tr A G' is -sigma_k^2 - mu ||p_k' A diag(w)||^2 for each direction p_k
        fitted = sigma2 + self.mu * (PtA.square() * w2).sum(1)
        return P, PtA, (1.0 - fitted.cumsum(0)).clamp_min(0.0)

    def _sweep(self) -> None:
        factors, bases, error = list(self.cp.factors), [], 1.0
        for mode, r in enumerate(self.ranks):
            P, PtA, errors = self.update(mode, factors)
            r = min(r or P.shape[1], P.shape[1])
            factors[mode] = P[:, :r] @ PtA[:r]
            bases.append(P[:, :r] if self.ranks[mode] is not None else None)
            error = float(errors[r - 1])
        self.cp, self.bases, self.squared_error = CPTensor(tuple(factors)).rescaled(), tuple(bases), error
        self.history.append(error)

    def solution(self, K: Tensor, norm: float, stop: StopReason, bound: float | None = None) -> Solution[LowRankCP]:
        """Thin factors, corrected within the bound (or within the correction's own slack), in the units of ``K``."""
        G, thin = self.X, []
        for mode, (U, F) in enumerate(zip(self.bases, self.cp.factors, strict=True)):
            thin.append(F if U is None else U.mT @ F)
            G = G if U is None else mode_product(G, U.mT, mode)
        core, epc = CPTensor(tuple(thin)), self.options.epc
        if epc is not None and float(G.norm()) > 0:
            # the bases are orthonormal: ||K - K^||^2 = ||K||^2 - ||G||^2 + ||G - G^||^2
            room = None if bound is None else bound**2 - 1.0 + float(G.square().sum())
            core = cp_epc(G, core, epc).factors if room is None else cp_epc_within(G, core, room, epc)
        result = LowRankCP(core.scaled(norm).rescaled(), self.bases).to(K)
        history = tuple(math.sqrt(error) for error in self.history)
        stability = Stability.of(result.core, norm)
        return Solution(result, relative_error(K, result), stop, len(history), history, stability)
