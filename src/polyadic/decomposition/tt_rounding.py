r"""Rounding of a tensor train to smaller ranks without forming the tensor (Oseledets 2011, algorithm 2).

QR from the right makes all cores but the first orthonormal; then the SVD of each core in turn is the SVD of the whole
unfolding at that cut, and truncating it is the best that can be done there. What the cuts lose adds up exactly:
``||X - X^||^2 = sum_k lost_k``, because each remainder is orthogonal to all that follow. ``O(d I r^3)``.

Under an error bound the ranks are chosen by price (:func:`cheapest_ranks`). The plan is made with the singular values
before any truncation, which is cautious, so the budget is raised by what a trial leaves unused. The rule of equal
shares, with what one cut leaves unused passed on to the next, competes; the cheaper train is returned.

**Which ranks keep a bound at the least price.** Cutting the modes 1 ... k from the rest at rank r loses at least
``tail_k(r) = sum_{i > r} s_i^2``, with s the singular values of that unfolding, and a TT-SVD loses at most the sum over
all cuts (Oseledets 2011, theorem 2.2). Oseledets gives each cut the same share of the squared error. But ranks cost
``sum_k w_k r_{k-1} r_k``, so a cut between wide modes deserves a larger share than one near the ends, whose rank is
small anyway.

Begun at equal shares, two cuts at a time are set to the cheapest pair that keeps the bound while the others stay, until
no pair helps. For two cuts (order 3) that is all pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import TensorTrain
from polyadic.decomposition.solution import Solution, StopReason
from polyadic.errors import DecompositionError

ROUNDING = 1e-13
"""Relative error that float64 makes anyway: a bound below it is met to this."""

Rule = Callable[[int, Tensor, float], int]
"""(cut, its tails, squared error lost so far) -> the rank to keep."""


@dataclass(frozen=True)
class Truncated:
    """A truncated train, the squared error of every cut, and the :func:`tail_energies` that it met on its way."""

    train: TensorTrain
    lost: tuple[float, ...]
    tails: tuple[Tensor, ...]


def tt_round(
    train: TensorTrain,
    *,
    ranks: Sequence[int] | None = None,
    error: float | None = None,
    weights: Sequence[float] | None = None,
) -> Solution[TensorTrain]:
    """``train`` with smaller ranks: given ones, or the cheapest found within a relative error.

    Args:
        train: of order 1 or more. Sums and mode products of trains are, too.
        ranks: ``r_1 ... r_{d-1}``; where the train's own rank is smaller, that stays.
        error: bound on ``||X - X^|| / ||X||``, from 0 to below 1, for the cores in float64.
        weights: price of ``r_{k-1} r_k`` in core k, for ``error`` only; the size of mode k by default, so that the
            price is the number of parameters.

    Raises:
        DecompositionError: both or neither of ``ranks`` and ``error``, ranks below 1 or not d - 1 of them, a bound
            outside [0, 1), weights that are not d positive numbers, cores that are not finite.
    """
    exact = train.double()
    canonical = exact.right_orthogonal()
    norm = float(canonical.cores[0].norm())
    if not 1e-150 < norm < 1e150 and norm != 0.0:  # NaN, Inf, or a square that leaves the range of float64
        raise DecompositionError(f"a tensor train to round needs a norm between 1e-150 and 1e150; got {norm}")
    if ranks is not None and error is None:
        if len(ranks) != len(train.ranks) or any(rank < 1 for rank in ranks):
            raise DecompositionError(
                f"a train of order {len(train.shape)} is rounded to {len(train.ranks)} ranks of at least 1; got {ranks}"
            )
        rounded = truncate(canonical, _at(ranks)).train
    elif error is not None and ranks is None:
        rounded = truncate_within(canonical, norm, error, weights)
    else:
        raise DecompositionError(f"tt_round takes ranks or an error bound; got ranks = {ranks} and error = {error}")
    result = rounded.with_equal_norms().to(train.cores[0])
    distance = exact.distance(result.double())
    return Solution(result, distance / norm if norm > 0 else distance, StopReason.CLOSED_FORM)


def truncate(canonical: TensorTrain, rule: Rule) -> Truncated:
    """SVD from the left of a right-orthogonal train, each cut at the rank that ``rule`` says."""
    cores: list[Tensor] = []
    lost: list[float] = []
    tails: list[Tensor] = []
    C = canonical.cores[0]
    for cut, following in enumerate(canonical.cores[1:]):
        U, s, Vh = torch.linalg.svd(C.flatten(0, 1), full_matrices=False)
        tail = tail_energies(s)
        r = rule(cut, tail, sum(lost))
        tails.append(tail)
        lost.append(float(tail[r]))
        cores.append(U[:, :r].reshape(*C.shape[:2], r))
        C = torch.tensordot(s[:r, None] * Vh[:r], following, dims=1)
    return Truncated(TensorTrain((*cores, C)), tuple(lost), tuple(tails))


def truncate_within(
    canonical: TensorTrain, norm: float, error: float, weights: Sequence[float] | None = None
) -> TensorTrain:
    """The cheapest train found within ``error`` of a right-orthogonal one of that ``norm``.

    Raises:
        DecompositionError: a bound outside [0, 1), weights that are not d positive numbers.
    """
    price_of_rank = _check_weights(weights, canonical)
    if not 0.0 <= error < 1.0:
        raise DecompositionError(f"a relative error bound lies in [0, 1); got {error}: 1 would allow the zero tensor")
    budget = (max(error, ROUNDING) * norm) ** 2
    cuts = len(canonical.cores) - 1
    if cuts == 0 or norm == 0.0:
        return truncate(canonical, _at((1,) * cuts)).train

    def equal_share(cut: int, tail: Tensor, lost: float) -> int:
        return smallest_rank(tail, (budget - lost) / (cuts - cut))

    def within(later: tuple[float, ...]) -> Rule:
        """The smallest rank that leaves for every later cut what it lost in a trial."""
        return lambda cut, tail, lost: smallest_rank(tail, budget - lost - sum(later[cut + 1 :]))

    found = [truncate(canonical, equal_share).train]
    tails = truncate(canonical, lambda cut, tail, lost: len(tail) - 1).tails
    allowed = budget
    for _ in range(4):
        plan = cheapest_ranks(tails, allowed, price_of_rank)
        trial = truncate(canonical, _at(plan))
        if sum(trial.lost) > budget:
            break
        found.append(truncate(canonical, within(trial.lost)).train)
        if sum(trial.lost) == 0.0:
            break
        allowed *= budget / sum(trial.lost)
    return min(found, key=lambda candidate: _price(candidate, price_of_rank))


def _at(ranks: Sequence[int]) -> Rule:
    """These ranks, or what is there where that is less."""
    return lambda cut, tail, lost: min(ranks[cut], len(tail) - 1)


def _price(train: TensorTrain, weights: Sequence[float]) -> float:
    return sum(w * G.shape[0] * G.shape[2] for w, G in zip(weights, train.cores, strict=True))


def _check_weights(weights: Sequence[float] | None, train: TensorTrain) -> Sequence[float]:
    if weights is None:
        return train.shape
    if len(weights) != len(train.shape) or not all(w > 0 for w in weights):
        raise DecompositionError(
            f"the price of a train takes {len(train.shape)} positive weights, one for each mode; got {tuple(weights)}"
        )
    return weights


def tail_energies(s: Tensor) -> Tensor:
    """``tail(r) = sum_{i > r} s_i^2`` for r = 0 ... n, from singular values ``s`` (n), largest first."""
    tail = s.square().flip(0).cumsum(0).flip(0)
    return torch.cat((tail, tail.new_zeros(1)))


def smallest_rank(tail: Tensor, allowed: float) -> int:
    """The smallest rank from 1 on that loses at most ``allowed``; ``tail`` from :func:`tail_energies`."""
    return max(1, min(int((tail > allowed).sum()), len(tail) - 1))


def cheapest_ranks(tails: Sequence[Tensor], allowed: float, weights: Sequence[float]) -> tuple[int, ...]:
    """Ranks ``r_1 ... r_{d-1}`` whose tails sum to at most ``allowed``, cheap by ``sum_k weights[k] r_{k-1} r_k``.

    Args:
        tails: for each of the d - 1 cuts, from :func:`tail_energies`.
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
