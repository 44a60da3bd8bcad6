"""Stable CP decomposition: the penalised homotopy, then error-preserving correction.

The homotopy (:mod:`polyadic.decomposition.cp_ridge`) finds factors of low error and low sensitivity together;
:mod:`polyadic.decomposition.cp_epc` then spends the allowed slack in error on still less sensitivity. Plain ALS never
follows EPC: it would bring the degeneracy back within a few hundred sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyadic.algebra import CP
from polyadic.decomposition.cp_epc import EPCOptions, cp_epc
from polyadic.decomposition.cp_ridge import RidgeOptions, cp_ridge
from polyadic.decomposition.solution import Solution, Stability, StopReason, checked, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class StableOptions:
    """Options of the two parts."""

    ridge: RidgeOptions = field(default_factory=RidgeOptions)
    epc: EPCOptions = field(default_factory=lambda: EPCOptions(max_sweeps=100, tolerance=1e-5))


def stable_cp(K: Tensor, rank: int, options: StableOptions | None = None, *, seed: int = 0) -> Solution[CP]:
    """Fit ``K`` (I x J x L) by ``rank`` rank-one terms of low error and low sensitivity.

    A rank that always suffices (:func:`full_rank`) is answered exactly and in closed form.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a rank below 1.
    """
    options = options or StableOptions()
    X = checked(K, "stable_cp", order=3)
    if rank >= full_rank(tuple(X.shape)):
        return exact_cp(K, rank)
    path = cp_ridge(K.detach().double(), rank, options.ridge, seed=seed)
    corrected = cp_epc(X, path.factors, options.epc)
    result = corrected.factors.to(K)
    history = path.history + corrected.history
    norm = float(X.norm())
    return Solution(result, relative_error(K, result), path.stop, len(history), history, Stability.of(result, norm))


def full_rank(shape: tuple[int, ...]) -> int:
    """A rank at which every I x J x L tensor is exact: the product of its two smallest sizes."""
    smallest, second, _ = sorted(shape)
    return smallest * second


def exact_cp(K: Tensor, rank: int) -> Solution[CP]:
    """Write ``K`` exactly, as the sum over its fibres along the longest mode, ``e_i o e_j o K[i, j, :]``.

    Raises:
        DecompositionError: a rank below :func:`full_rank`.
    """
    X = checked(K, "exact_cp", order=3)
    needed = full_rank(tuple(X.shape))
    if rank < needed:
        raise DecompositionError(f"an exact CP of a {tuple(X.shape)} tensor takes rank {needed}; got {rank}")
    order = sorted(range(3), key=lambda mode: X.shape[mode])
    first, second, long = (int(X.shape[mode]) for mode in order)
    fibres = X.permute(order).reshape(first * second, long).mT  # long x (first second)
    extra = rank - needed
    eye_first = torch.eye(first, dtype=X.dtype, device=X.device).repeat_interleave(second, dim=1)
    eye_second = torch.eye(second, dtype=X.dtype, device=X.device).repeat(1, first)
    padded = [torch.nn.functional.pad(U, (0, extra)) for U in (eye_first, eye_second, fibres)]
    placed = [padded[order.index(mode)] for mode in range(3)]
    result = CP(tuple(placed)).rescaled().to(K)
    return Solution(
        result, relative_error(K, result), StopReason.CLOSED_FORM, stability=Stability.of(result, float(X.norm()))
    )
