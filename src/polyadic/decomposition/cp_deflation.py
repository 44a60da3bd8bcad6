"""CP decomposition by greedy deflation, one rank-one term after the other (Denton et al., NIPS 2014).

Term r is the best rank-one approximation of what the terms before it left over,

    (a_r, b_r, c_r) = argmin || K - sum_(q < r) a_q o b_q o c_q - a o b o c ||,

found by alternating least squares from the best of several starts (for one term: the higher-order power method of De
Lathauwer, De Moor and Vandewalle 2000). It costs R times an ALS of one term: ``4 R I_1 ... I_N`` operations a sweep.

It stands here as the historical baseline of the compression of convolutions. For matrices greedy deflation gives the
truncated SVD; for tensors it need not approach the best approximation of rank R, because the terms are never revised,
and subtracting a best rank-one approximation can even raise the rank of what is left (Stegeman and Comon, Linear
Algebra and its Applications 433, 2010). :func:`polyadic.decomposition.stable_cp` is the method to use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import unit_tensor
from polyadic.decomposition.cp_als import ALSOptions, cp_als
from polyadic.decomposition.cp_ridge import EXACT
from polyadic.decomposition.solution import Solution, StopReason, check_rank, check_tensor, solution_of
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class DeflationOptions:
    """How every single term is sought.

    Attributes:
        starts: random starting points that are tried for ten sweeps each; the best goes on.
        max_sweeps: most sweeps for one term after that.
        tolerance: a term is done when a sweep lowers the squared error of what is left by less than this fraction.
    """

    starts: int = 5
    max_sweeps: int = 100
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        if self.starts < 1 or self.max_sweeps < 1:
            raise DecompositionError(
                f"deflation takes at least one start and one sweep per term; got {self.starts} and {self.max_sweeps}"
            )


def cp_deflation(K: Tensor, rank: int, options: DeflationOptions | None = None, *, seed: int = 0) -> Solution[CPTensor]:
    """Fit ``K`` (any order >= 3) by ``rank`` terms, each the best for what those before it left (Denton et al. 2014).

    Returns:
        The factors, terms in the order in which they were found; ``history`` is the relative error after every term.
        Once nothing is left the remaining terms are zero. ``StopReason.MAX_SWEEPS`` if some term was not converged.

    Raises:
        DecompositionError: NaN or Inf, a tensor of order below 3, a rank below 1.
    """
    options = options or DeflationOptions()
    check_rank(rank)
    X, norm = unit_tensor(check_tensor(K, "cp_deflation"))
    one_term = ALSOptions(max_sweeps=options.max_sweeps, tolerance=options.tolerance, starts=options.starts)

    left, terms, squared_errors, stop = X, [], [], StopReason.CONVERGED
    for r in range(rank):
        found = cp_als(left, 1, one_term, seed=seed + r * options.starts)
        terms.append(found.factors)
        left = left - found.factors.full()
        squared_errors.append(float(left.square().sum()))
        if found.stop is not StopReason.CONVERGED:
            stop = StopReason.MAX_SWEEPS
        if squared_errors[-1] <= EXACT:
            break
    columns = zip(*(term.factors for term in terms), strict=True)
    cp = CPTensor(tuple(torch.cat(matrices, dim=1) for matrices in columns)).padded(rank)
    return solution_of(K, cp.scaled(norm), stop, squared_errors)
