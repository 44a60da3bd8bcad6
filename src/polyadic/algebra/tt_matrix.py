r"""The matrix tensor-train format, or MPO (Oseledets 2010; Novikov et al., NIPS 2015): rows and columns both split.

An index of M rows is counted in row-major order from d digits, ``i = (...(i_1 m_2 + i_2) m_3 + ...) m_d + i_d``, that
is as ``M.reshape(m_1, ..., m_d)`` counts it: the first digit is the slowest. Columns likewise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra.factors import Factors
from polyadic.algebra.tensor_train import TensorTrain
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class TTMatrixTensor(Factors):
    """``W[i, j] = G_1[:, i_1, j_1, :] G_2[:, i_2, j_2, :] ... G_d[:, i_d, j_d, :]``, rows by columns ``M x N``.

    Attributes:
        cores: ``G_k``, r_{k-1} x m_k x n_k x r_k, with ``r_0 = r_d = 1``, ``M = m_1 ... m_d``, ``N = n_1 ... n_d``.

    Raises:
        DecompositionError: no core, a core that is not of order 4, or neighbours of different rank.
    """

    cores: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        shapes = [tuple(G.shape) for G in self.cores]
        if any(len(shape) != 4 for shape in shapes):
            raise DecompositionError(f"cores of a matrix tensor train are r_{{k-1}} x m_k x n_k x r_k; got {shapes}")
        self.train()

    @staticmethod
    def of(train: TensorTrain, row_modes: tuple[int, ...], column_modes: tuple[int, ...]) -> TTMatrixTensor:
        """The matrix whose digits ``(i_k, j_k)`` are the modes ``m_k n_k`` of ``train``, ``j_k`` the faster one.

        Raises:
            DecompositionError: modes that do not multiply to those of the train.
        """
        pairs = tuple(zip(row_modes, column_modes, strict=False))
        if len(row_modes) != len(column_modes) or tuple(m * n for m, n in pairs) != train.shape:
            raise DecompositionError(
                f"row modes {row_modes} times column modes {column_modes} are the modes of the train, {train.shape}"
            )
        split = ((G.shape[0], m, n, G.shape[2]) for G, (m, n) in zip(train.cores, pairs, strict=True))
        return TTMatrixTensor(tuple(G.reshape(shape) for G, shape in zip(train.cores, split, strict=True)))

    def train(self) -> TensorTrain:
        """The tensor train of the order-d tensor with modes ``m_k n_k``: what is to be rounded, added, measured."""
        return TensorTrain(tuple(G.flatten(1, 2) for G in self.cores))

    @property
    def row_modes(self) -> tuple[int, ...]:
        """``m_1 ... m_d``."""
        return tuple(int(G.shape[1]) for G in self.cores)

    @property
    def column_modes(self) -> tuple[int, ...]:
        """``n_1 ... n_d``."""
        return tuple(int(G.shape[2]) for G in self.cores)

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N)."""
        return math.prod(self.row_modes), math.prod(self.column_modes)

    @property
    def ranks(self) -> tuple[int, ...]:
        """``r_1 ... r_{d-1}``."""
        return tuple(int(G.shape[3]) for G in self.cores[:-1])

    def full(self) -> Tensor:
        """The matrix itself, M x N."""
        d = len(self.cores)
        digits = [size for pair in zip(self.row_modes, self.column_modes, strict=True) for size in pair]
        X = self.train().full().reshape(digits)  # m_1 x n_1 x ... x m_d x n_d
        return X.permute(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(self.shape)

    def times(self, x: Tensor) -> Tensor:
        """``W x`` (... x M) for every vector of ``x`` (... x N), core by core; the matrix is never formed.

        Core k costs ``r_{k-1} r_k m_1 ... m_k n_k ... n_d`` for each vector.

        Raises:
            DecompositionError: vectors of another length.
        """
        M, N = self.shape
        if x.ndim == 0 or x.shape[-1] != N:
            raise DecompositionError(f"a {M} x {N} matrix multiplies vectors of length {N}; got shape {tuple(x.shape)}")
        lead, Z = x.shape[:-1], x.reshape(-1, N)
        for G in self.cores:  # (rows so far) x (r_{k-1} n_k) x (columns to come)
            Z = Z.reshape(-1, G.shape[0], G.shape[2], Z.shape[-1] // G.shape[2])
            Z = torch.einsum("brnz,rmns->bmsz", Z, G).flatten(0, 1)
        return Z.reshape(*lead, M)

    def __add__(self, other: TTMatrixTensor) -> TTMatrixTensor:
        """The sum of two matrices with equal modes; ranks add. For what else is linear, see :meth:`train`."""
        if (self.row_modes, self.column_modes) != (other.row_modes, other.column_modes):
            raise DecompositionError(
                f"two matrix tensor trains need equal modes; got {self.row_modes} x {self.column_modes} and "
                f"{other.row_modes} x {other.column_modes}"
            )
        return TTMatrixTensor.of(self.train() + other.train(), self.row_modes, self.column_modes)

    def times_input(self, M: Tensor) -> TTMatrixTensor:
        """``W M'`` has no train of these ranks: a matrix over all columns couples the digits that the cores keep apart.

        Raises:
            DecompositionError: always.
        """
        raise DecompositionError(
            f"a matrix tensor train splits its columns into {self.column_modes}, so a matrix of size {tuple(M.shape)} "
            "over all of them cannot go into one core: decompose in the plain norm"
        )


def balanced_modes(n: int, d: int) -> tuple[int, ...]:
    """``n`` as a product of ``d`` whole numbers above 1 with the least sum, the largest in the middle.

    64 in 3 gives (4, 4, 4), 128 in 3 gives (4, 8, 4). A count like 62 has only what its factors allow: (2, 31).

    Raises:
        DecompositionError: fewer than ``d`` prime factors; the sentence names the next count with modes that differ by
            a factor of 2 at most.
    """
    if d < 1 or n < 1:
        raise DecompositionError(f"a count of at least 1 is split into at least one mode; got {n} in {d}")
    found = min(_products(n, d), key=sum, default=None)
    if found is None:
        larger = itertools.count(max(n, 2**d))
        enough = next(size for size in larger if any(modes[-1] <= 2 * modes[0] for modes in _products(size, d)))
        raise DecompositionError(
            f"{n} has fewer than {d} prime factors, so it is no product of {d} modes above 1: pad it with zeros to "
            f"{enough}, or use fewer modes"
        )
    return _largest_inside(found)


def covering_modes(n: int, d: int) -> tuple[int, ...]:
    """``d`` modes for a count of ``n``, whatever ``n`` is: their product is ``n``, or up to an eighth more.

    Modes of ``n`` itself if none of them is more than twice as large as another; otherwise, of all counts that are
    large enough, the modes of least sum. So 128 in 3 gives (4, 8, 4), and 67 is padded to 72 = 3 * 6 * 4. Where there
    are no d modes above 1, the rest are ones: 3 in 3 gives (1, 3, 1).

    Raises:
        DecompositionError: a count or a number of modes below 1.
    """
    if d < 1 or n < 1:
        raise DecompositionError(f"a count of at least 1 is split into at least one mode; got {n} in {d}")
    own = min(_products(n, d), key=sum, default=None)
    if own is not None and own[-1] <= 2 * own[0]:
        return _largest_inside(own)
    candidates = [modes for size in range(n, n + n // 8 + 1) for modes in _products(size, d)]
    if candidates:
        return _largest_inside(min(candidates, key=lambda modes: (sum(modes), math.prod(modes))))
    if d == 1:
        return (n,)
    fewer = covering_modes(n, d - 1)
    return (1, *fewer) if fewer[0] > 1 else (*fewer, 1)


def _largest_inside(rising: tuple[int, ...]) -> tuple[int, ...]:
    """2 4 8 to 2 8 4: every second one from the left, the others back from the right."""
    return (*rising[::2], *reversed(rising[1::2]))


def _products(n: int, d: int, least: int = 2) -> Iterator[tuple[int, ...]]:
    """All rising sequences of d whole numbers from ``least`` on whose product is n."""
    if d == 1:
        if n >= least:
            yield (n,)
        return
    for size in range(least, int(n ** (1 / d) + 1e-9) + 1):
        if n % size == 0:
            yield from ((size, *rest) for rest in _products(n // size, d - 1, size))
