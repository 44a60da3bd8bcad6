r"""Alternating least squares at the ranks of a tensor train (Holtz, Rohwedder and Schneider, SISC 34(2), 2012).

With all cores left of k orthonormal from the left and all right of it from the right, the best core k is the tensor
contracted with both sides: no system is solved, ``||X - X^||^2 = ||X||^2 - ||G_k||^2``, and the error never rises. A
sweep goes to the first core and back. It needs about as many operations as a TT-SVD at the same ranks without its SVDs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain
from polyadic.decomposition.solution import Solution, StopReason, check_tensor, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class TTALSOptions:
    """How long a train is refined.

    Attributes:
        max_sweeps: most sweeps, each once to the first core and once to the last.
        tolerance: stop when the relative error falls by less than this fraction.
    """

    max_sweeps: int = 20
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.max_sweeps < 1:
            raise DecompositionError(f"ALS takes at least one sweep; got max_sweeps = {self.max_sweeps}")


def tt_als(X: Tensor, start: TensorTrain, options: TTALSOptions | None = None) -> Solution[TensorTrain]:
    """``X`` (I_1 x ... x I_d) as a train of the ranks of ``start``, no farther from X than ``start``.

    Args:
        X: a tensor of order 2 or more.
        start: :func:`polyadic.decomposition.tt_svd` gives a good one. Ranks above r_{k-1} I_k or I_k r_k fall to those.
        options: when to stop.

    Raises:
        DecompositionError: NaN or Inf, an order below 2, a start of another shape or not finite.
    """
    options = options or TTALSOptions()
    if X.ndim < 2 or tuple(X.shape) != start.shape:
        raise DecompositionError(
            f"tt_als starts from a train of the tensor's own shape, {tuple(X.shape)} of order 2 or more; "
            f"got {start.shape}"
        )
    if not start.is_finite():
        raise DecompositionError("tt_als starts from finite cores; got NaN or Inf")
    tensor = check_tensor(X, "tt_als", order=X.ndim)
    norm = float(tensor.norm())
    unit = tensor / norm if norm > 0 else tensor
    train = start.double().to(unit).left_orthogonal()
    history: list[float] = []
    stop = StopReason.MAX_SWEEPS
    while len(history) < options.max_sweeps:
        train = sweep_cores(unit, train)
        history.append(max(0.0, float(unit.square().sum()) - float(train.cores[-1].square().sum())) ** 0.5)
        if len(history) > 1 and history[-2] - history[-1] <= options.tolerance * history[-2]:
            stop = StopReason.CONVERGED
            break
    result = train.scaled(norm).with_equal_norms().to(X)
    return Solution(result, relative_error(X, result), stop, len(history), tuple(history))


def sweep_cores(X: Tensor, train: TensorTrain) -> TensorTrain:
    """Best cores from the last to the first and back; left-orthogonal in and out, so the last core holds the norm."""
    flipped = X.permute(*reversed(range(X.ndim)))
    # the reverse of a right-orthogonal train is left-orthogonal
    return _half_sweep(flipped, _half_sweep(X, train).reversed()).reversed()


def _half_sweep(X: Tensor, train: TensorTrain) -> TensorTrain:
    """Best cores from the last to the first; ``train`` is left-orthogonal, the result right-orthogonal."""
    cores = list(train.cores)
    # remainders[k]: X contracted with the cores 1 ... k, r_k x (I_{k+1} ... I_d)
    remainders = [X.reshape(1, -1)]
    for G in cores[:-1]:
        remainders.append(G.flatten(0, 1).mT @ remainders[-1].reshape(G.shape[0] * G.shape[1], -1))
    right = X.new_ones(1, 1)  # (I_{k+1} ... I_d) x r_k, orthonormal columns
    for k in range(len(cores) - 1, -1, -1):
        size, r = cores[k].shape[1], right.shape[1]
        best = (remainders[k].reshape(-1, right.shape[0]) @ right).reshape(-1, size * r)
        if k > 0:
            best = torch.linalg.qr(best.mT).Q.mT
        cores[k] = best.reshape(-1, size, r)
        right = torch.einsum("aib,zb->iza", cores[k], right).reshape(-1, best.shape[0])
    return TensorTrain(tuple(cores))
