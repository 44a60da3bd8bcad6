"""First and second moments of what a layer sees and of what it should answer, and the best kernel for them.

A convolution multiplies patches ``y`` (its input under the window, S D^2 numbers) by the kernel as a matrix ``K``
(T x S D^2) and adds a bias. Towards targets ``t`` (T) its mean squared error is

    E ||t - K y - b||^2  =  var(t) - 2 <K, C> + <K Sigma, K>  +  ||mean(t) - K mean(y) - b||^2,

    Sigma = cov(y, y)   (S D^2 x S D^2),        C = cov(t, y)   (T x S D^2),

so these moments are all that least squares needs: of one layer, of the last layer of a chain (``y`` are then the
features before it), of a compressed network's inputs towards the dense network's outputs (the asymmetric objective of
Zhang et al., TPAMI 2016, without its nonlinearity).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class PatchMoments:
    """Moments over a number of positions, in float64.

    Attributes:
        Sigma: covariance of the patches, P x P with P = S D^2; the taps of one channel stand together.
        C: covariance of targets and patches, T x P.
        patch_mean: P.
        target_mean: T.
        target_variance: ``E ||t - mean(t)||^2``.
        count: number of positions.
    """

    Sigma: Tensor
    C: Tensor
    patch_mean: Tensor
    target_mean: Tensor
    target_variance: float
    count: int

    @staticmethod
    def of(rows: Iterable[tuple[Tensor, Tensor]], bias: bool = True) -> PatchMoments:
        """From batches of patches (n x P) and targets (n x T): two products of n P (P + T) operations.

        Args:
            rows: the batches.
            bias: whether the layer has a bias that will take up the means. Where it has none, the moments are about
                zero instead, and both means are zero.

        Raises:
            DecompositionError: no position at all, NaN or Inf, patches and targets that do not belong together.
        """
        P, squares, count = 0, 0.0, 0
        total, shift = torch.zeros(()), torch.zeros(())
        for y, t in rows:
            if y.ndim != 2 or t.ndim != 2 or len(y) != len(t) or not y.numel():
                raise DecompositionError(
                    f"moments take n x P patches and n x T targets; got {tuple(y.shape)} and {tuple(t.shape)}"
                )
            Z = torch.cat([y, y.new_full((len(y), 1), float(bias)), t], 1)
            if count == 0:  # about a point near the mean: what is subtracted in the end stays small
                P, shift = y.shape[1], (Z.mean(0) if bias else Z.new_zeros(Z.shape[1]))
                shift[P], total = 0.0, Z.new_zeros(Z.shape[1], P + 1, dtype=torch.float64)
            Z -= shift
            total += (Z.mT @ Z[:, : P + 1]).double()
            squares += float(Z[:, P + 1 :].double().square().sum())
            count += len(y)
        if count == 0:
            raise DecompositionError("moments take at least one position; got none")
        if not bool(torch.isfinite(total).all()) or squares != squares:
            raise DecompositionError("moments take finite numbers; got NaN or Inf among the inputs or the targets")
        return _centred(total / count, shift.double(), squares / count, count)

    @property
    def patch_size(self) -> int:
        """P, the number of columns of the kernel as a matrix."""
        return int(self.Sigma.shape[0])

    def scale(self) -> float:
        """Mean variance of one number of a patch (1 where nothing varies): the unit of every ridge."""
        mean = float(self.Sigma.diagonal().mean())
        return mean if mean > 0 else 1.0

    def output_error(self, kernel: Tensor) -> float:
        """``sqrt(E ||t - K y - b||^2 / var(t))`` with the best bias: the relative error of what ``kernel`` answers."""
        K = as_matrix(kernel, self)
        error = self.target_variance - 2.0 * float((K * self.C).sum()) + float(((K @ self.Sigma) * K).sum())
        return math.sqrt(max(error, 0.0) / (self.target_variance if self.target_variance > 0 else 1.0))


def fitted_kernel(kernel: Tensor, moments: PatchMoments, ridge: float = 0.03) -> Tensor:
    """Least squares from patches to targets, drawn towards ``kernel`` where the patches do not say otherwise.

    Minimises ``E ||t - K' y - b||^2 + r ||K' - K||^2`` over K' and b, with ``r = ridge`` times the mean variance:
    ``K' = K + (C - K Sigma) (Sigma + r I)^(-1)``. Costs ``P^3 / 3 + 2 T P^2``.

    One rule for two things. With the inputs of a compressed network and the outputs of the dense layer it is the
    asymmetric correction, by which every layer repairs what the layers before it lost. With the features before the
    last layer of a chain it is the exact refit of that layer.

    Args:
        kernel: T x S x window, or the weight of a Linear; the result has its shape and dtype.
        moments: of S D^2 numbers per patch.
        ridge: above 0 where positions may be fewer than P, or directions without variance.

    Raises:
        DecompositionError: moments of another shape, a negative ridge, or a singular covariance without a ridge.
    """
    if not ridge >= 0:
        raise DecompositionError(f"a ridge is a number >= 0; got {ridge}")
    K = as_matrix(kernel, moments)
    regular = moments.Sigma + ridge * moments.scale() * torch.eye(moments.patch_size, dtype=K.dtype, device=K.device)
    L, info = torch.linalg.cholesky_ex(regular)
    if int(info):
        raise DecompositionError("the covariance of the patches is singular: take more images or a ridge above 0")
    step = torch.cholesky_solve((moments.C - K @ moments.Sigma).mT, L).mT
    return (K + step).reshape(kernel.shape).to(kernel)


def fitted_bias(kernel: Tensor, moments: PatchMoments) -> Tensor:
    """``mean(t) - K mean(y)`` (T, float64): with it the mean error of ``kernel`` is zero for every output channel."""
    return moments.target_mean - as_matrix(kernel, moments) @ moments.patch_mean


def as_matrix(kernel: Tensor, moments: PatchMoments) -> Tensor:
    """``kernel`` as T x P, in float64 beside the moments.

    Raises:
        DecompositionError: P does not match.
    """
    K = kernel.detach().double().flatten(1).to(moments.Sigma.device)
    if K.shape != moments.C.shape:
        raise DecompositionError(
            f"a kernel {tuple(kernel.shape)} is a matrix {tuple(K.shape)}; the moments are of {tuple(moments.C.shape)}"
        )
    return K


def _centred(second: Tensor, shift: Tensor, squares: float, count: int) -> PatchMoments:
    """Covariances from ``E [y; 1; t] [y; 1]'`` about ``shift``."""
    P = second.shape[1] - 1
    mean_y, mean_t = second[:P, P], second[P + 1 :, P]
    Sigma = second[:P, :P] - torch.outer(mean_y, mean_y)
    return PatchMoments(
        (Sigma + Sigma.mT) / 2,
        second[P + 1 :, :P] - torch.outer(mean_t, mean_y),
        mean_y + shift[:P],
        mean_t + shift[P + 1 :],
        max(squares - float(mean_t.square().sum()), 0.0),
        count,
    )
