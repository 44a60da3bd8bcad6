r"""Which ranks of a tensor train keep an error bound at the least price.

Cutting the modes 1 ... k from the rest at rank r loses at least ``tail_k(r) = sum_{i > r} s_i^2``, with s the singular
values of that unfolding, and a TT-SVD loses at most the sum over all cuts (Oseledets 2011, theorem 2.2). Oseledets
gives each cut the same share of the squared error. But ranks cost ``sum_k w_k r_{k-1} r_k``, so a cut between wide
modes deserves a larger share than one near the ends, whose rank is small anyway.

Begun at equal shares, two cuts at a time are set to the cheapest pair that keeps the bound while the others stay, until
no pair helps. For two cuts (order 3) that is all pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def discard(s: Tensor) -> Tensor:
    """``tail(r) = sum_{i > r} s_i^2`` for r = 0 ... n, from singular values ``s`` (n), largest first."""
    tail = s.square().flip(0).cumsum(0).flip(0)
    return torch.cat((tail, tail.new_zeros(1)))


def smallest_rank(tail: Tensor, allowed: float) -> int:
    """The smallest rank from 1 on that loses at most ``allowed``; ``tail`` from :func:`discard`."""
    return max(1, min(int((tail > allowed).sum()), len(tail) - 1))


def cheapest_ranks(tails: Sequence[Tensor], allowed: float, weights: Sequence[float]) -> tuple[int, ...]:
    """Ranks ``r_1 ... r_{d-1}`` whose tails sum to at most ``allowed``, cheap by ``sum_k weights[k] r_{k-1} r_k``.

    Args:
        tails: for each of the d - 1 cuts, from :func:`discard`.
        allowed: squared error, at least 0.
        weights: d of them; the sizes of the modes where parameters are the price.
    """
    tails = [tail.cpu() for tail in tails]
    ranks = [smallest_rank(tail, allowed / len(tails)) for tail in tails]
    settled = False
    while not settled:
        settled = True
        for i, j in itertools.combinations(range(len(ranks)), 2):
            others = sum(float(tails[k][ranks[k]]) for k in range(len(ranks)) if k not in (i, j))
            pair = _cheapest_pair(tails, allowed - others, weights, ranks, (i, j))
            if pair != (ranks[i], ranks[j]):
                (ranks[i], ranks[j]), settled = pair, False
    return tuple(ranks)


def _cheapest_pair(
    tails: list[Tensor], allowed: float, weights: Sequence[float], ranks: list[int], cuts: tuple[int, int]
) -> tuple[int, int]:
    """The ranks at two cuts that lose at most ``allowed`` together and are cheaper than what is there."""
    i, j = cuts
    left = allowed - tails[i][1:]  # for r_i = 1, 2, ...
    r_i = 1 + torch.nonzero(left >= 0).flatten()
    # tails fall, so the smallest r_j with tail_j(r_j) <= left is found by bisection in their negatives
    r_j = torch.searchsorted(-tails[j], -left[r_i - 1]).clamp_min(1)
    bonds = torch.tensor([1, *ranks, 1]).repeat(1 + len(r_i), 1)  # a row for every pair, the first for what is there
    bonds[1:, i + 1], bonds[1:, j + 1] = r_i, r_j
    prices = (bonds[:, :-1] * bonds[:, 1:]).double() @ torch.tensor(weights, dtype=torch.float64)
    best = int(prices.argmin())
    if prices[best] >= prices[0]:
        return ranks[i], ranks[j]
    return int(bonds[best, i + 1]), int(bonds[best, j + 1])
