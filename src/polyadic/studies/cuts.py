"""Cuts of a convolution kernel ``K[o, i, h, w]`` (T x S x D_h x D_w) and truncation along them.

A *cut* divides the four indices into two sides; the kernel is then a matrix with one side as rows and the other as
columns. Truncation keeps the ``chi`` largest singular values of that matrix and folds it back: the best kernel of that
rank along the cut (Eckart and Young 1936), and still a dense one. There are seven cuts. A *chain* truncates along
several, one after the other; each step is an orthogonal projection, so no step makes the kernel longer.

Two cuts *cross* where neither side of one lies within a side of the other: ``oi | hw`` and ``oh | iw`` do. A chain
without crossing cuts is a tree tensor network: a matrix ``n_k x chi_k`` at each index cut off alone, and one or two
cores. A later truncation then leaves the earlier ranks as they are. Unless a cut of two indices is followed by cuts on
both of its sides, the projections of a tree commute, and ``||K||^2 = ||K^||^2 + ||K - K^||^2`` for the whole chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from polyadic.errors import DecompositionError

INDICES = "oihw"
SIDES = ("o", "i", "h", "w", "oi", "oh", "ow")


@final
@dataclass(frozen=True)
class Cut:
    """One of the seven cuts, by the side that has one index, or of two equal sides the one with ``o``."""

    side: str

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise DecompositionError(f"a cut is named by one of its sides, {', '.join(SIDES)}; got {self.side!r}")

    @staticmethod
    def parse(text: str) -> Cut:
        """Read ``o|ihw``, ``ihw|o``, ``o`` or ``hw``: any order of the letters, either side or both.

        Raises:
            DecompositionError: no such cut.
        """
        sides = [frozenset(part.strip()) for part in text.split("|")]
        side, everything = sides[0], frozenset(INDICES)
        if not (frozenset() < side < everything) or sides[1:] not in ([], [everything - side]):
            names = ", ".join(f"{one}|{_others(one)}" for one in SIDES)
            raise DecompositionError(f"a cut divides the indices o, i, h, w of a kernel: {names}; got {text!r}")
        return _canonical(side)

    @property
    def columns(self) -> str:
        """The indices of the other side."""
        return _others(self.side)

    def largest_rank(self, shape: Sequence[int]) -> int:
        """The rank at which truncation changes nothing."""
        return min(_size(self.side, shape), _size(self.columns, shape))

    def matrix(self, K: Tensor) -> Tensor:
        """``K`` (T x S x D_h x D_w) with this side's indices as rows."""
        order = [INDICES.index(index) for index in self.side + self.columns]
        return K.permute(order).reshape(_size(self.side, K.shape), -1)

    def folded(self, M: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse of :meth:`matrix`, for a kernel of ``shape``."""
        order = [INDICES.index(index) for index in self.side + self.columns]
        back = [order.index(axis) for axis in range(4)]
        return M.reshape([shape[axis] for axis in order]).permute(back)

    def crosses(self, other: Cut) -> bool:
        """Whether no tree has both cuts."""
        return len(self.side) == len(other.side) == 2 and self != other

    def partition(self, shape: Sequence[int]) -> frozenset[frozenset[str]]:
        """Both sides without indices of size 1: what tells cuts of a 1 x 1 window apart. Empty if nothing is cut."""
        wide = frozenset(index for index, size in zip(INDICES, shape, strict=True) if size > 1)
        sides = (wide & frozenset(self.side), wide & frozenset(self.columns))
        return frozenset(sides) if all(sides) else frozenset()

    def __str__(self) -> str:
        return f"{self.side}|{self.columns}"


@final
@dataclass(frozen=True)
class Chain:
    """Cuts, one after the other; a single cut is a chain of one."""

    cuts: tuple[Cut, ...]

    def __post_init__(self) -> None:
        if not self.cuts or len(set(self.cuts)) != len(self.cuts):
            raise DecompositionError(f"a chain holds one cut or several different ones; got {self}")

    @staticmethod
    def parse(text: str) -> Chain:
        """Read cuts joined by +, such as ``o+i`` or ``o|ihw + oi|hw``.

        Raises:
            DecompositionError: something in it is no cut, or stands twice.
        """
        return Chain(tuple(Cut.parse(part) for part in text.split("+")))

    @property
    def short(self) -> str:
        """Its name by one side of each cut, such as ``o+i``."""
        return "+".join(cut.side for cut in self.cuts)

    @property
    def is_tree(self) -> bool:
        """Whether no two cuts cross."""
        return sum(len(cut.side) == 2 for cut in self.cuts) <= 1

    def largest_ranks(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The largest rank of each cut."""
        return tuple(cut.largest_rank(shape) for cut in self.cuts)

    def ranks_at(self, share: float, shape: Sequence[int]) -> tuple[int, ...]:
        """``share`` of the largest rank of each cut, rounded, at least 1."""
        return tuple(max(1, round(share * largest)) for largest in self.largest_ranks(shape))

    def truncate(self, K: Tensor, ranks: Sequence[int]) -> Tensor:
        """``K`` (T x S x D_h x D_w) truncated to ``ranks``, one for each cut; computed in float64.

        Raises:
            DecompositionError: another number of ranks, or one below 1.
        """
        if len(ranks) != len(self.cuts) or min(ranks) < 1:
            raise DecompositionError(f"the chain {self} takes {len(self.cuts)} ranks from 1 up; got {tuple(ranks)}")
        X = K
        for cut, rank in zip(self.cuts, ranks, strict=True):
            if rank < cut.largest_rank(K.shape):
                X = truncate_along(X, cut, rank)
        return X.to(K.dtype)

    def parameters(self, ranks: Sequence[int], shape: Sequence[int]) -> int | None:
        """Numbers in the tree tensor network of these ranks; None for crossing cuts, which have none."""
        tree = tree_shapes(self, ranks, shape)
        return None if tree is None else sum(math.prod(factor) for factor in tree)

    def __str__(self) -> str:
        return "+".join(map(str, self.cuts))


def truncate_along(K: Tensor, cut: Cut, rank: int) -> Tensor:
    """The best kernel of ``rank`` along ``cut``, in float64."""
    M = cut.matrix(K.double())
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    return cut.folded((U[:, :rank] * s[:rank]) @ Vh[:rank], K.shape)


def tree_shapes(chain: Chain, ranks: Sequence[int], shape: Sequence[int]) -> list[tuple[int, ...]] | None:
    """Shapes of the factors of a kernel truncated along ``chain``: the leaves in the order oihw, then the cores.

    A cut at its largest rank needs no factor. One core holds all four (reduced) indices; with a cut of two indices each
    there are two cores, of shapes (rows, rank) and (rank, columns).
    """
    if not chain.is_tree:
        return None
    kept = {cut.side: rank for cut, rank in zip(chain.cuts, ranks, strict=True) if rank < cut.largest_rank(shape)}
    sizes = dict(zip(INDICES, shape, strict=True))
    inner = {index: kept.get(index, sizes[index]) for index in INDICES}
    leaves: list[tuple[int, ...]] = [(sizes[index], inner[index]) for index in INDICES if index in kept]
    pair = next((side for side in kept if len(side) == 2), None)
    if pair is None:
        return [*leaves, tuple(inner[index] for index in INDICES)]
    rows, columns = (math.prod(inner[index] for index in side) for side in (pair, _others(pair)))
    rank = min(kept[pair], rows, columns)
    return [*leaves, (rows, rank), (rank, columns)]


def _others(side: str) -> str:
    return "".join(index for index in INDICES if index not in side)


def _size(side: str, shape: Sequence[int]) -> int:
    return math.prod(shape[INDICES.index(index)] for index in side)


def _canonical(side: frozenset[str]) -> Cut:
    ordered = "".join(index for index in INDICES if index in side)
    if len(ordered) == 3 or (len(ordered) == 2 and "o" not in ordered):
        ordered = _others(ordered)
    return Cut(ordered)


ALL_CUTS = tuple(Cut(side) for side in SIDES)
"""``o|ihw``, ``i|ohw``, ``h|oiw``, ``w|oih``, ``oi|hw``, ``oh|iw``, ``ow|ih``."""
