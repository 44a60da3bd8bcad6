"""The canonical polyadic (CP, Kruskal) format and what can be said of its stability.

Leading dimensions of the factors are a batch: many decompositions of equal shape and rank, worked on as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from polyadic.algebra.factors import Factors
from polyadic.algebra.products import gram, gram_product, khatri_rao


@dataclass(frozen=True)
class CPTensor(Factors):
    """A sum of R rank-one tensors, ``sum_r u1_r o u2_r o ... o uN_r``.

    For a kernel the factors are ``A`` (D^2 x R), ``B`` (S x R) and ``C`` (T x R).

    Attributes:
        factors: N matrices, number n of shape (... x I_n x R).
    """

    factors: tuple[Tensor, ...]

    @property
    def rank(self) -> int:
        """The number R of rank-one terms."""
        return int(self.factors[0].shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes I_1 ... I_N of the tensor."""
        return tuple(int(U.shape[-2]) for U in self.factors)

    @property
    def parameters(self) -> int:
        """How many numbers one decomposition holds: R (I_1 + ... + I_N)."""
        return self.rank * sum(self.shape)

    def full(self) -> Tensor:
        """The tensor itself, ... x I_1 x ... x I_N."""
        # two Khatri-Rao products of about equal size, as small as can be
        cut = min(range(1, len(self.factors)), key=lambda n: math.prod(self.shape[:n]) + math.prod(self.shape[n:]))
        left, right = reduce(khatri_rao, self.factors[:cut]), reduce(khatri_rao, self.factors[cut:])
        return (left @ right.mT).reshape(*left.shape[:-2], *self.shape)

    def squared_norm(self) -> Tensor:
        """``||X||^2`` (...) from the Grams alone: the sum over all entries of their elementwise product."""
        return (gram_product(self.factors, skip=0) * gram(self.factors[0])).sum((-2, -1))

    def squared_column_norms(self) -> Tensor:
        """``||u_nr||^2`` (... x N x R), in float64: products of squares leave the range of the shorter types."""
        return torch.stack([U.double().square().sum(-2) for U in self.factors], dim=-2)

    def intensities(self) -> Tensor:
        """``lambda_r = ||u1_r|| ... ||uN_r||`` (... x R): the norm of each rank-one term (Phan et al. 2020, Fig. 2)."""
        return self.squared_column_norms().sqrt().prod(-2)

    def sum_squared_intensity(self) -> Tensor:
        """``sum_r lambda_r^2`` (...) (Phan et al. 2020, eq. 3)."""
        return self.intensities().square().sum(-1)

    def sensitivity(self) -> Tensor:
        """Expected growth of ``||X - X~||^2 / sigma^2`` when every factor entry moves by N(0, sigma^2), sigma -> 0.

        For order 3: ``sum_r (I b^2 c^2 + J a^2 c^2 + L a^2 b^2)``. This is Definition 1 of Phan et al. 2020 (eq. 4,
        without its constant 1/R); their eq. 7-9 print the factor R where the mode's own size I, J, L belongs.
        """
        others = _products_of_others(self.squared_column_norms()).sum(-1)
        return (others * torch.tensor(self.shape, dtype=others.dtype, device=others.device)).sum(-1)

    def sensitivity_lemma(self) -> Tensor:
        """``ss = tr{(A'A)*(B'B) + (B'B)*(C'C) + (A'A)*(C'C)}`` as Lemma 1 of Phan et al. 2020 (eq. 5) prints it."""
        return _products_of_others(self.squared_column_norms()).sum((-2, -1))

    def rescaled(self, *, equal: bool = False) -> CPTensor:
        """The same tensor with the column norms that make :meth:`sensitivity` smallest.

        With ``equal``, the norms of a term's columns become equal instead: that makes :meth:`sensitivity_lemma`
        smallest.

        For fixed intensities the minimum has ``||u_1r||^2 : ... : ||u_Nr||^2 = I_1 : ... : I_N``. It is
        ``N (I_1 ... I_N)^(1/N) sum_r lambda_r^(2 (N-1)/N)``, i.e. ``3 (I J L)^(1/3) sum_r lambda_r^(4/3)`` for order 3.
        """
        norms = self.squared_column_norms()
        order = len(self.factors)
        sizes = torch.ones(order) if equal else torch.tensor(self.shape)
        sizes = sizes.to(norms)[:, None]
        # ||u_nr||^2 = I_n t_r; roots before products, which may leave the range of float64
        t = ((norms / sizes) ** (1.0 / order)).prod(-2, keepdim=True)
        scales = torch.where(norms > 0, (sizes * t / norms.clamp_min(torch.finfo(norms.dtype).tiny)).sqrt(), 0.0)
        pairs = zip(self.factors, scales.unbind(-2), strict=True)
        return CPTensor(tuple((U * scale[..., None, :]).to(U.dtype) for U, scale in pairs))

    def scaled(self, factor: float | Tensor) -> CPTensor:
        """``factor * X`` (``factor >= 0``, one number or one for each of the batch), spread evenly over the modes."""
        root = factor ** (1.0 / len(self.factors))
        if isinstance(root, Tensor):
            root = root[..., None, None]
        return self.map(lambda U: U * root)

    def __getitem__(self, index: int | slice | Tensor | None) -> CPTensor:
        """One decomposition of a batch, or some of them; with None a batch of this one."""
        return self.map(lambda U: U[index])

    def permuted(self, order: Sequence[int]) -> CPTensor:
        """The CP of the tensor whose mode n is mode ``order[n]`` of this one."""
        return CPTensor(tuple(self.factors[n] for n in order))

    def times_input(self, M: Tensor) -> CPTensor:
        """``X x_S M`` for a kernel D^2 x S x T (S is the second mode), columns rescaled."""
        A, B, *rest = self.factors
        return CPTensor((A, M @ B, *rest)).rescaled()

    def padded(self, rank: int) -> CPTensor:
        """The same tensor with zero terms added up to ``rank``."""
        extra = rank - self.rank
        return self if extra == 0 else self.map(lambda U: torch.nn.functional.pad(U, (0, extra)))


def _products_of_others(norms: Tensor) -> Tensor:
    """For each row of ``norms`` (... x N x R) the product of the others (never by division: a column may be zero)."""
    rows = norms.unbind(-2)
    others = [torch.stack(rows[:n] + rows[n + 1 :]).prod(0) for n in range(len(rows))]
    return torch.stack(others, dim=-2)
