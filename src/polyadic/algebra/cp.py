"""The canonical polyadic (CP, Kruskal) format and what can be said of its stability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra.products import gram, gram_product


@dataclass(frozen=True)
class CP:
    """A sum of R rank-one tensors, ``sum_r u1_r o u2_r o ... o uN_r``.

    For a kernel the factors are ``A`` (D^2 x R), ``B`` (S x R) and ``C`` (T x R).

    Attributes:
        factors: N matrices, number n of shape (I_n x R).
    """

    factors: tuple[Tensor, ...]

    @property
    def rank(self) -> int:
        """The number R of rank-one terms."""
        return int(self.factors[0].shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes I_1 ... I_N of the tensor."""
        return tuple(int(U.shape[0]) for U in self.factors)

    @property
    def parameters(self) -> int:
        """How many numbers the factors hold: R (I_1 + ... + I_N)."""
        return self.rank * sum(self.shape)

    def full(self) -> Tensor:
        """The tensor itself, I_1 x ... x I_N."""
        letters = "ijklmnop"[: len(self.factors)]
        pattern = ",".join(f"{letter}r" for letter in letters)
        return torch.einsum(f"{pattern}->{letters}", *self.factors)

    def squared_norm(self) -> Tensor:
        """``||X||^2`` from the Grams alone: the sum over all entries of their elementwise product."""
        return (gram_product(self.factors, skip=0) * gram(self.factors[0])).sum()

    def squared_column_norms(self) -> Tensor:
        """``||u_nr||^2`` as an N x R matrix, in float64: products of squares leave the range of the shorter types."""
        return torch.stack([U.double().square().sum(0) for U in self.factors])

    def intensities(self) -> Tensor:
        """``lambda_r = ||u1_r|| ... ||uN_r||`` (R): the norm of every rank-one term (Phan et al. 2020, Fig. 2)."""
        return self.squared_column_norms().sqrt().prod(0)

    def sum_squared_intensity(self) -> float:
        """``sum_r lambda_r^2`` (Phan et al. 2020, eq. 3)."""
        return float(self.intensities().square().sum())

    def sensitivity(self) -> float:
        """Expected growth of ``||X - X~||^2 / sigma^2`` when every factor entry moves by N(0, sigma^2), sigma -> 0.

        For order 3: ``sum_r (I b^2 c^2 + J a^2 c^2 + L a^2 b^2)``. This is Definition 1 of Phan et al. 2020 (eq. 4,
        without its constant 1/R); their eq. 7-9 print the factor R where the mode's own size I, J, L belongs.
        """
        norms = self.squared_column_norms()
        return float(sum(size * _product_without(norms, n).sum() for n, size in enumerate(self.shape)))

    def sensitivity_lemma(self) -> float:
        """``ss = tr{(A'A)*(B'B) + (B'B)*(C'C) + (A'A)*(C'C)}`` as Lemma 1 of Phan et al. 2020 (eq. 5) prints it."""
        norms = self.squared_column_norms()
        return float(sum(_product_without(norms, n).sum() for n in range(len(self.factors))))

    def rescaled(self) -> CP:
        """The same tensor with the column norms that make :meth:`sensitivity` smallest.

        For fixed intensities the minimum has ``||u_1r||^2 : ... : ||u_Nr||^2 = I_1 : ... : I_N``. It is
        ``N (I_1 ... I_N)^(1/N) sum_r lambda_r^(2 (N-1)/N)``, i.e. ``3 (I J L)^(1/3) sum_r lambda_r^(4/3)`` for order 3.
        """
        norms = self.squared_column_norms()
        order, volume = len(self.factors), math.prod(self.shape)
        # ||u_nr||^2 = I_n t_r; roots before products, which may leave the range of float64
        t = (norms ** (1.0 / order)).prod(0) / volume ** (1.0 / order)
        scaled = []
        for U, size, norm in zip(self.factors, self.shape, norms, strict=True):
            scale = torch.where(norm > 0, (size * t / norm.clamp_min(torch.finfo(norm.dtype).tiny)).sqrt(), 0.0)
            scaled.append((U.double() * scale).to(U.dtype))
        return CP(tuple(scaled))

    def scaled(self, factor: float) -> CP:
        """``factor * X`` (``factor >= 0``), spread evenly over the modes."""
        root = factor ** (1.0 / len(self.factors))
        return CP(tuple(U * root for U in self.factors))

    def times_input(self, M: Tensor) -> CP:
        """``X x_S M`` for a kernel D^2 x S x T (S is the second mode), columns rescaled."""
        A, B, *rest = self.factors
        return CP((A, M @ B, *rest)).rescaled()

    def padded(self, rank: int) -> CP:
        """The same tensor with zero terms added up to ``rank``."""
        extra = rank - self.rank
        return self if extra == 0 else CP(tuple(torch.nn.functional.pad(U, (0, extra)) for U in self.factors))

    def to(self, like: Tensor) -> CP:
        """The same factors in the dtype and on the device of ``like``."""
        return CP(tuple(U.to(like) for U in self.factors))


def _product_without(norms: Tensor, n: int) -> Tensor:
    """Product over all rows of ``norms`` (N x R) but row ``n`` (never by division: a column may be zero)."""
    return torch.cat([norms[:n], norms[n + 1 :]]).prod(0)
