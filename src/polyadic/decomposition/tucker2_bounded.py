r"""The cheapest Tucker-2 of a kernel within an error bound (Phan et al., ECCV 2020, eq. 14-18).

Under a bound ``||K - K^||^2 <= delta^2`` the paper updates U and V in turn, each with the smallest rank that keeps the
bound. Begun at ``V = I`` the first mode then spends the whole error budget and the second rank stays nearly full. Here
R1 is searched: the truncations of one HOSVD say which values are promising; at each, U = the R1 leading eigenvectors,
then a few times {smallest R2 that keeps the bound -> V; leading R1 -> U}, as in rank-adaptive HOOI (Xiao and Yang,
2021); then the neighbours of the cheapest, by ever smaller steps. The sequential rule's own two answers are tried too,
so the result never costs more than they do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import Tensor

from polyadic.algebra import Tucker2Tensor, mode_product
from polyadic.decomposition.solution import Solution, StopReason, checked
from polyadic.decomposition.tucker2 import Tucker2Options, from_bases, mode_gram, spectrum
from polyadic.decomposition.tucker2_frontier import allowed_ranks, tucker2_weights
from polyadic.errors import DecompositionError

PROMISING = 1.25  # a rank whose truncation costs this many times the cheapest truncation is not looked at


def tucker2_bounded(
    K: Tensor,
    error: float,
    cost: Callable[[int, int], float] | None = None,
    options: Tucker2Options | None = None,
    *,
    multiple: int = 1,
) -> Solution[Tucker2Tensor]:
    """The cheapest Tucker-2 of ``K`` (D^2 x S x T) with relative error at most ``error``.

    Args:
        K: the kernel.
        error: bound on ``||K - K^|| / ||K||``, from 0 to below 1.
        cost: what a pair (R1, R2) costs, not falling in either; the number of weights by default
            (:func:`tucker2_macs` gives that of a layer's multiply-accumulates).
        options: how thoroughly to search.
        multiple: only ranks that are multiples of this, and the full ranks S and T, which hardware may like better.

    Raises:
        DecompositionError: NaN or Inf, a tensor not of order 3, a bound outside [0, 1), a multiple below 1.
    """
    options = options or Tucker2Options()
    X = checked(K, "tucker2", order=3)
    if not 0.0 <= error < 1.0:
        raise DecompositionError(f"a relative error bound lies in [0, 1); got {error}: 1 would allow the zero kernel")
    price = cost or tucker2_weights(tuple(X.shape))
    # rounding of the eigenvalues must not push the ranks up when the bound is 0
    search = _Search(X, (1.0 - max(error**2, 1e-13)) * float(X.square().sum()), price, multiple)
    search.sequential(options.bound_sweeps)
    search.around_the_cheapest(options)
    U, V = search.best
    return from_bases(K, X, U, V, StopReason.CONVERGED, options.bound_sweeps)


class _Search:
    """What has been tried under one bound, and the cheapest pair of bases (U, V) so far."""

    def __init__(self, X: Tensor, needed: float, price: Callable[[int, int], float], multiple: int) -> None:
        self.X, self.needed, self.price = X, needed, price
        self.allowed = allowed_ranks(X, multiple)
        self.spectra = [spectrum(mode_gram(X, mode)) for mode in (1, 2)]
        self.tried: set[int] = set()
        self.best = (self.spectra[0][1], self.spectra[1][1])  # full ranks: exact
        self.least = price(int(X.shape[1]), int(X.shape[2]))

    def sequential(self, sweeps: int) -> None:
        """The paper's rule from U and from V: in turn, each with the smallest rank that keeps the bound."""
        for first in (1, 2):
            bases = [vectors for _, vectors in self.spectra]
            for step in range(2 * sweeps):
                mode = first if step % 2 == 0 else 3 - first
                bases[mode - 1] = self._smallest(mode, bases[2 - mode])
                if step:
                    self._offer(bases[0], bases[1])

    def around_the_cheapest(self, options: Tucker2Options) -> None:
        """Try a grid of the promising R1, then the neighbours of the cheapest by ever smaller steps."""
        promising = self._promising()
        step = max(1, len(promising) // options.grid)
        for at in range(0, len(promising), step):
            self._try(promising[at], options.bound_sweeps)
        while promising and step >= 1:
            at = min(bisect_left(promising, int(self.best[0].shape[1])), len(promising) - 1)
            before = len(self.tried)
            for near in (at - step, at + step):
                if 0 <= near < len(promising):
                    self._try(promising[near], options.bound_sweeps)
            if len(self.tried) == before:
                step = step // 2

    def _promising(self) -> list[int]:
        """Values of R1 whose truncated HOSVD keeps the bound at little more than the least cost."""
        (_, U), (_, V) = self.spectra
        G = mode_product(mode_product(self.X, U.mT, 1), V.mT, 2)
        kept = G.square().sum(0).cumsum(0).cumsum(1).cpu()
        second = torch.tensor(self.allowed[1]) - 1
        prices = {}
        for R1 in self.allowed[0]:
            at = int((kept[R1 - 1, second] < self.needed).sum())
            if at < len(second):
                prices[R1] = self.price(R1, self.allowed[1][at])
        ceiling = PROMISING * min(prices.values(), default=0.0)
        return [R1 for R1, paid in prices.items() if paid <= ceiling]

    def _try(self, R1: int, sweeps: int) -> None:
        """From the R1 leading vectors of HOSVD: V of the smallest rank that keeps the bound, refined with R1 fixed."""
        if R1 in self.tried:
            return
        self.tried.add(R1)
        U, previous = self.spectra[0][1][:, :R1], int(self.X.shape[2]) + 1
        for _ in range(sweeps):
            V = self._smallest(2, U)
            if V.shape[1] >= previous:
                return
            previous = int(V.shape[1])
            self._offer(U, V)
            U = spectrum(mode_gram(mode_product(self.X, V.mT, 2), 1))[1][:, :R1]

    def _smallest(self, mode: int, other: Tensor) -> Tensor:
        """The basis of ``mode`` of the smallest allowed rank that keeps the bound beside the ``other`` basis."""
        values, vectors = spectrum(mode_gram(mode_product(self.X, other.mT, 3 - mode), mode))
        count = int((values.cumsum(0) < self.needed).sum()) + 1
        allowed = self.allowed[mode - 1]
        return vectors[:, : allowed[min(bisect_left(allowed, count), len(allowed) - 1)]]

    def _offer(self, U: Tensor, V: Tensor) -> None:
        paid = self.price(int(U.shape[1]), int(V.shape[1]))
        if paid < self.least:
            self.best, self.least = (U, V), paid
