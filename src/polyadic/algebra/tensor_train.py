r"""The tensor-train format (Oseledets, SIAM J. Sci. Comput. 33(5), 2011): a tensor as a chain of order-3 cores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra.factors import Factors
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class TensorTrain(Factors):
    """``X[i_1 ... i_d] = G_1[:, i_1, :] G_2[:, i_2, :] ... G_d[:, i_d, :]``, a product of small matrices.

    Attributes:
        cores: ``G_k``, r_{k-1} x I_k x r_k, with ``r_0 = r_d = 1``.

    Raises:
        DecompositionError: no core, a core that is not of order 3, or neighbours of different rank.
    """

    cores: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        shapes = [tuple(G.shape) for G in self.cores]
        coupled = bool(shapes) and all(len(shape) == 3 and 0 not in shape for shape in shapes)
        if coupled:
            left, right = [shape[0] for shape in shapes], [shape[2] for shape in shapes]
            coupled = [*left, 1] == [1, *right]
        if not coupled:
            raise DecompositionError(
                "cores of a tensor train are r_{k-1} x I_k x r_k, with r_0 = r_d = 1 and neighbours of equal rank; "
                f"got {shapes}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes I_1 ... I_d of the tensor."""
        return tuple(int(G.shape[1]) for G in self.cores)

    @property
    def ranks(self) -> tuple[int, ...]:
        """``r_1 ... r_{d-1}``, one for each cut between two modes."""
        return tuple(int(G.shape[2]) for G in self.cores[:-1])

    def full(self) -> Tensor:
        """The tensor itself, I_1 x ... x I_d; from the left, so that what grows is I_1 ... I_k x r_k."""
        X = self.cores[0].flatten(0, 1)
        for G in self.cores[1:]:
            X = (X @ G.flatten(1)).reshape(-1, G.shape[2])
        return X.reshape(self.shape)

    def inner(self, other: TensorTrain) -> Tensor:
        """``<X, Y>`` (a number) of two trains of one shape in ``O(d I r^3)``, without either tensor.

        Raises:
            DecompositionError: trains of different shapes.
        """
        self._check_shape(other)
        E = self.cores[0].new_ones(1, 1)  # r_k of X x r_k of Y: the product of the first k cores
        for G, H in zip(self.cores, other.cores, strict=True):
            EH = torch.tensordot(E, H, dims=1)
            E = torch.tensordot(G, EH, dims=([0, 1], [0, 1]))
        return E.squeeze()

    def squared_norm(self) -> Tensor:
        """``||X||^2`` from the cores alone."""
        return self.inner(self)

    def distance(self, other: TensorTrain) -> float:
        """``||X - Y||`` by orthogonalising the difference.

        ``||X||^2 + ||Y||^2 - 2 <X, Y>`` would lose half of the digits where the two are close.
        """
        return float((self + other.scaled(-1.0)).left_orthogonal().cores[-1].norm())

    def __add__(self, other: TensorTrain) -> TensorTrain:
        """``X + Y`` with ranks that add: cores side by side, block-diagonal between the ends."""
        self._check_shape(other)
        last = len(self.cores) - 1
        pairs = enumerate(zip(self.cores, other.cores, strict=True))
        return TensorTrain(tuple(_coupled(G, H, first=k == 0, last=k == last) for k, (G, H) in pairs))

    def scaled(self, factor: float) -> TensorTrain:
        """``factor X``, each core taking the same share."""
        share = abs(factor) ** (1.0 / len(self.cores))
        first, *rest = (share * G for G in self.cores)
        return TensorTrain((math.copysign(1.0, factor) * first, *rest))

    def with_equal_norms(self) -> TensorTrain:
        """The same tensor with cores of equal Frobenius norm, so that none leaves the range of a short type."""
        norms = [float(G.norm()) for G in self.cores]
        if not all(norm > 0 for norm in norms):
            return self
        mean = math.exp(sum(math.log(norm) for norm in norms) / len(norms))
        return TensorTrain(tuple((mean / norm) * G for G, norm in zip(self.cores, norms, strict=True)))

    def reversed(self) -> TensorTrain:
        """The train of the tensor with its modes in reverse order."""
        return TensorTrain(tuple(G.permute(2, 1, 0) for G in reversed(self.cores)))

    def left_orthogonal(self) -> TensorTrain:
        """The same tensor with orthonormal columns in every core but the last, as (r_{k-1} I_k) x r_k matrices.

        QR from the left, ``O(d I r^3)``; a rank above r_{k-1} I_k falls to that. The norm is then that of the last
        core.
        """
        cores, R = [], self.cores[0].new_ones(1, 1)
        for G in self.cores[:-1]:
            RG = torch.tensordot(R, G, dims=1)
            Q, R = torch.linalg.qr(RG.flatten(0, 1))
            cores.append(Q.reshape(*RG.shape[:2], -1))
        return TensorTrain((*cores, torch.tensordot(R, self.cores[-1], dims=1)))

    def right_orthogonal(self) -> TensorTrain:
        """The same tensor with orthonormal rows in every core but the first, as r_{k-1} x (I_k r_k) matrices."""
        return self.reversed().left_orthogonal().reversed()

    def mode_product(self, M: Tensor, mode: int) -> TensorTrain:
        """``X x_mode M`` with M (new size) x (old size): one core changes, no rank does."""
        G = torch.einsum("ji,aib->ajb", M, self.cores[mode])
        return TensorTrain((*self.cores[:mode], G, *self.cores[mode:][1:]))

    def times_input(self, M: Tensor) -> TensorTrain:
        """``K x_S M`` for a kernel D^2 x S x T (or T x S): S is mode 1, counted from 0."""
        return self.mode_product(M, 1)

    def _check_shape(self, other: TensorTrain) -> None:
        if self.shape != other.shape:
            raise DecompositionError(f"two tensor trains need one shape; got {self.shape} and {other.shape}")


def largest_tt_ranks(shape: tuple[int, ...], most: int | None = None) -> tuple[int, ...]:
    """Ranks at which a train of that shape holds any tensor: ``min(I_1 ... I_k, I_{k+1} ... I_d)``; at most ``most``.

    Raises:
        DecompositionError: ``most`` below 1.
    """
    if most is not None and most < 1:
        raise DecompositionError(f"a rank of a tensor train is at least 1; got at most {most}")
    bounds = [min(math.prod(shape[:k]), math.prod(shape[k:])) for k in range(1, len(shape))]
    return tuple(bounds if most is None else (min(bound, most) for bound in bounds))


def _coupled(G: Tensor, H: Tensor, first: bool, last: bool) -> Tensor:
    """Core of a sum of two trains: ``[G H]``, ``[G 0; 0 H]`` or ``[G; H]``, in every slice of the mode."""
    if first and last:
        return G + H
    if first or last:
        return torch.cat((G, H), dim=2 if first else 0)
    size = G.shape[1]
    above = torch.cat((G, G.new_zeros(G.shape[0], size, H.shape[2])), dim=2)
    below = torch.cat((H.new_zeros(H.shape[0], size, G.shape[2]), H), dim=2)
    return torch.cat((above, below), dim=0)
