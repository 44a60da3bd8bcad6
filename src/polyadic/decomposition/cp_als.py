"""CP decomposition by alternating least squares (Carroll and Chang 1970; Harshman 1970).

Each factor in turn is the least-squares solution with the others fixed, ``A = G_A Gamma_A^(-1)``, so the error never
rises. Nothing holds the components back: at the ranks of convolution kernels their norms usually grow without bound
while they cancel (Phan et al. 2020, section 1.2). It stands here as the baseline;
:func:`polyadic.decomposition.stable_cp` is the method to use.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from polyadic.algebra import CP
from polyadic.decomposition.alternation import Block, solve_gram, sweep, unit_tensor
from polyadic.decomposition.cp_init import initial_cp
from polyadic.decomposition.solution import Solution, StopReason, checked, finished
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class ALSOptions:
    """How long alternating least squares runs and where it starts.

    Attributes:
        max_sweeps: most sweeps per start.
        tolerance: stop when a sweep lowers the squared relative error by less than this (``||K|| = 1``).
        init: "random" or "singular".
        starts: how many starting points are tried for ten sweeps; the best goes on (TENSORBOX's multi-start rule).
    """

    max_sweeps: int = 1000
    tolerance: float = 1e-9
    init: str = "random"
    starts: int = 1

    def __post_init__(self) -> None:
        """Refuse a run without a start."""
        if self.starts < 1:
            raise DecompositionError(f"alternating least squares takes at least one start; got {self.starts}")


def cp_als(K: Tensor, rank: int, options: ALSOptions | None = None, *, seed: int = 0) -> Solution[CP]:
    """Fit ``K`` (I x J x L) by ``rank`` rank-one terms with alternating least squares.

    Returns:
        The factors with balanced columns, in the dtype and on the device of ``K``; computed in float64.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a rank below 1.
    """
    options = options or ALSOptions()
    X, norm = unit_tensor(checked(K, "cp_als", order=3))
    cp, history = _best_start(X, rank, options, seed)
    stop, intensities = StopReason.MAX_SWEEPS, [cp.sum_squared_intensity()] * len(history)
    while len(history) < options.max_sweeps:
        cp, error = sweep(X, cp, least_squares)
        history.append(error)
        intensities.append(cp.sum_squared_intensity())
        if history[-2] - error < options.tolerance:
            stop = StopReason.CONVERGED
            break
    if _diverges(intensities, history):
        stop = StopReason.DIVERGING
    return finished(K, cp, norm, stop, history)


def least_squares(block: Block) -> Tensor:
    """``G Gamma^(-1)``: the factor of least error."""
    return solve_gram(block.Gamma, block.G)


def _best_start(X: Tensor, rank: int, options: ALSOptions, seed: int) -> tuple[CP, list[float]]:
    trials = []
    for start in range(options.starts):
        cp, history = initial_cp(X, rank, options.init, seed + start), []
        for _ in range(10 if options.starts > 1 else 1):
            cp, error = sweep(X, cp, least_squares)
            history.append(error)
        trials.append((history[-1], start, cp, history))
    _, _, cp, history = min(trials, key=lambda trial: trial[:2])
    return cp, history


def _diverges(intensities: list[float], history: list[float]) -> bool:
    """Large cancelling terms that still grew by a tenth over the second half, while the error fell by under 1 %."""
    half, late = len(history) // 2, intensities[-1]
    stalled = history[half] - history[-1] < 0.02 * history[-1]
    return stalled and late > 1.1 * intensities[half] and late > 10.0
