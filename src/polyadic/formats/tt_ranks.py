"""Ranks of a tensor train: which a search may choose from, and which a tensor can use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain, largest_tt_ranks
from polyadic.decomposition.tt_rounding import cheapest_ranks, tail_energies
from polyadic.formats.format import energies_after
from polyadic.schema import Rank

_LEVELS = 60  # candidates at most: relative errors from 0.98 down
_SMALLEST = 1e-3  # relative error of the last candidate but the exact one


def tt_candidate_ranks(X: Tensor) -> list[Rank]:
    """The cheapest ranks that TT-SVD promises of X for relative errors from 0.98 down, then the full ones.

    ``X`` is the kernel as the tensor I_1 x ... x I_d whose train is sought (float64). Ranks for which a smaller error
    is promised at no more numbers are left out, so each candidate holds more than the one before it.
    """
    sizes = tuple(int(size) for size in X.shape)
    norm = float(X.norm())
    unit = X / norm if norm > 0 else X
    flat = (unit.reshape(math.prod(sizes[:cut]), -1) for cut in range(1, len(sizes)))
    tails = [tail_energies(torch.linalg.svdvals(matrix)) for matrix in flat]
    levels = torch.logspace(math.log10(0.98), math.log10(_SMALLEST), _LEVELS, dtype=torch.float64).tolist()
    found = [cheapest_ranks(tails, level**2, sizes) for level in levels]
    kept: list[Rank] = []
    least = math.inf
    for rank in (largest_tt_ranks(sizes), *reversed(found)):
        bonds = (1, *rank, 1)
        numbers = sum(left * size * right for left, size, right in zip(bonds[:-1], sizes, bonds[1:], strict=True))
        if numbers < least:
            kept.append(rank)
            least = numbers
    return kept[::-1]


def tt_energies_left(X: Tensor, ranks: Sequence[Rank]) -> tuple[Tensor, Tensor]:
    """Least and most squared error of TT-SVD of ``X`` (I_1 x ... x I_d) at each of ``ranks``, from d - 1 spectra."""
    sizes = tuple(int(size) for size in X.shape)
    usable = [usable_ranks(rank, sizes) for rank in ranks]
    flat = [X.reshape(math.prod(sizes[:cut]), -1) for cut in range(1, len(sizes))]
    left = energies_after(flat, [list(bond) for bond in zip(*usable, strict=True)])
    return left.amax(0), left.sum(0)


def usable_ranks(ranks: Rank, sizes: tuple[int, ...]) -> Rank:
    """No bond wider than what its left neighbour and core, or all that follows, can fill."""
    usable, before = [], 1
    for k, r in enumerate(ranks, start=1):
        before = min(r, before * sizes[k - 1], math.prod(sizes[k:]))
        usable.append(before)
    return tuple(usable)


def widen_ranks(train: TensorTrain, ranks: Rank) -> TensorTrain:
    """The same tensor with larger ``ranks``, the cores filled with zeros."""
    bonds = (1, *ranks, 1)
    cores = []
    for G, left, right in zip(train.cores, bonds[:-1], bonds[1:], strict=True):
        core = G.new_zeros(left, G.shape[1], right)
        core[: G.shape[0], :, : G.shape[2]] = G
        cores.append(core)
    return TensorTrain(tuple(cores))
