"""CP decomposition by alternating least squares (Carroll and Chang 1970; Harshman 1970).

Each factor in turn is the least-squares solution with the others fixed, ``A = G_A Gamma_A^(-1)``, so the error never
rises. Nothing holds the components back: at the ranks of convolution kernels their norms usually grow without bound
while they cancel (Phan et al. 2020, section 1.2). It stands here as the baseline;
:func:`polyadic.decomposition.stable_cp` is the method to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block, UnitTensors, solve_gram, sweep
from polyadic.decomposition.batch import Batch, Finished, initial_cp, solutions
from polyadic.decomposition.solution import Solution, StopReason, check_batch
from polyadic.errors import DecompositionError

_TRIAL_SWEEPS = 10


@dataclass(frozen=True)
class ALSOptions:
    """How long alternating least squares runs and where it starts.

    Attributes:
        max_sweeps: most sweeps per start.
        tolerance: stop when a sweep lowers the squared relative error by less than this (``||K|| = 1``).
        init: "random" or "singular".
        starts: how many starting points are tried for ten sweeps, in one batch; the best goes on (TENSORBOX's
            multi-start rule).
        precision: of the products with the tensor. "float32" is about twice as fast; what has the size of a Gram stays
            in float64.
    """

    max_sweeps: int = 1000
    tolerance: float = 1e-9
    init: str = "random"
    starts: int = 1
    precision: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise DecompositionError(f"alternating least squares takes at least one start; got {self.starts}")
        if self.max_sweeps < 1:
            raise DecompositionError(f"alternating least squares takes at least one sweep; got {self.max_sweeps}")


def cp_als(K: Tensor, rank: int, options: ALSOptions | None = None, *, seed: int = 0) -> Solution[CPTensor]:
    """Fit ``K`` (any order >= 3) by ``rank`` rank-one terms with alternating least squares (Harshman 1970).

    Returns:
        The factors with balanced columns, in the dtype and on the device of ``K``.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1.

    Example:
        >>> K = torch.randn(9, 8, 12, generator=torch.Generator().manual_seed(0))  # D^2 x S x T
        >>> solution = cp_als(K, 10, ALSOptions(max_sweeps=200))
        >>> round(solution.relative_error, 2), solution.factors.parameters
        (0.65, 290)
    """
    return cp_als_batch([K], rank, options, seeds=[seed])[0]


def cp_als_batch(
    tensors: Sequence[Tensor], rank: int, options: ALSOptions | None = None, *, seeds: Sequence[int] | None = None
) -> list[Solution[CPTensor]]:
    """:func:`cp_als` of tensors of one shape, worked on together; ``seeds`` one for each, 0 when absent."""
    options = options or ALSOptions()
    unit = UnitTensors.of(check_batch(tensors, "cp_als"), getattr(torch, options.precision))
    cp = _best_start(unit, rank, options, seeds or [0] * len(unit))
    return solutions(tensors, unit, least_squares_sweeps(unit, cp, options))


def least_squares_sweeps(unit: UnitTensors, cp: CPTensor, options: ALSOptions) -> list[Finished]:
    """Plain ALS of every member from ``cp``."""
    batch = Batch(unit)
    intensities: list[list[float]] = [[] for _ in batch.members]
    previous = torch.full_like(unit.norms, torch.inf)
    while batch.members:
        cp, error = sweep(batch.unit, cp, least_squares)
        batch.record(error)
        for member, total in zip(batch.members, cp.sum_squared_intensity().tolist(), strict=True):
            intensities[member].append(total)
        converged = previous - error < options.tolerance
        last = len(batch.errors(batch.members[0])) >= options.max_sweeps
        stops = [StopReason.CONVERGED if end else StopReason.MAX_SWEEPS for end in converged.tolist()]
        for position, member in enumerate(batch.members):
            if _diverges(intensities[member], batch.errors(member)):
                stops[position] = StopReason.DIVERGING
        staying = batch.retire(converged | last, cp, stops)
        previous = error
        if staying is not None:
            cp, previous = cp[staying], previous[staying]
    return batch.finished()


def least_squares(block: Block) -> Tensor:
    """``G Gamma^(-1)``: the factor of least error."""
    return solve_gram(block.Gamma, block.G)


def _best_start(unit: UnitTensors, rank: int, options: ALSOptions, seeds: Sequence[int]) -> CPTensor:
    """Of ``options.starts`` starting points for each tensor, the one that is best after a few sweeps."""
    if options.starts == 1:
        return initial_cp(unit, rank, options.init, seeds)
    many = unit[torch.arange(len(unit)).repeat_interleave(options.starts)]
    trials = initial_cp(many, rank, options.init, [seed + n for seed in seeds for n in range(options.starts)])
    for _ in range(_TRIAL_SWEEPS):
        trials, error = sweep(many, trials, least_squares)
    best = error.reshape(len(unit), options.starts).argmin(1)
    return trials[best + options.starts * torch.arange(len(unit), device=best.device)]


def _diverges(intensities: list[float], history: list[float]) -> bool:
    """Large cancelling terms that still grew by a tenth over the second half, while the error fell by under 1 %."""
    half, late = len(history) // 2, intensities[-1]
    stalled = history[half] - history[-1] < 0.02 * history[-1]
    return stalled and late > 1.1 * intensities[half] and late > 10.0
