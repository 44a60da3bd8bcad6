"""Data-aware decomposition: measure the error of a kernel where its inputs are, and fit kernels to what they see.

**The norm of the inputs.** For patches ``y`` with covariance ``Sigma`` (S D^2 x S D^2) the output error of an
approximation is ``||(K - K^) Sigma^(1/2)||`` with K as a T x S D^2 matrix. A root of the whole Sigma would mix channels
and taps, and a decomposition that keeps them apart could not be taken out of it again. Its Kronecker surrogate can:

    Sigma ~ Sigma_S (x) Sigma_D,        K' = K x_S Sigma_S^(1/2) x_D Sigma_D^(1/2),

with ``Sigma_S`` the mean over the taps and ``Sigma_D`` the mean over the channels. So decompose ``K'`` in the plain
norm and multiply the factors by the inverse roots afterwards: any decomposition serves, and no label is needed. What
the surrogate leaves out the last factor can win back exactly (:func:`fitted_kernel`). A weight of the outputs enters
the T mode the same way.

**Least squares from moments.** A convolution multiplies patches ``y`` (its input under the window, S D^2 numbers) by
the kernel as a matrix ``K`` (T x S D^2) and adds a bias. Towards targets ``t`` (T) its mean squared error is

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
from typing import Any

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Tucker2Tensor, mode_product
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
    """The bias (T, float64) with which ``kernel`` (T x S x window) errs by zero on average: ``mean(t) - K mean(y)``."""
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


@dataclass(frozen=True)
class ModeWeight:
    """The weight of one mode.

    Attributes:
        root: ``M^(1/2)`` of a second moment M, n x n, symmetric, float64.
        inverse_root: ``M^(-1/2)``.
    """

    root: Tensor
    inverse_root: Tensor

    @staticmethod
    def of(moment: Tensor, ridge: float) -> ModeWeight:
        """From a second moment (n x n): scaled to mean diagonal 1, with ``ridge`` added to the diagonal.

        Raises:
            DecompositionError: not a square matrix of finite numbers, or a ridge that is not positive.
        """
        if moment.ndim != 2 or moment.shape[0] != moment.shape[1] or not bool(torch.isfinite(moment).all()):
            raise DecompositionError(f"a second moment is a square matrix of finite numbers; got {tuple(moment.shape)}")
        if not ridge > 0:
            raise DecompositionError(f"a ridge that keeps unseen directions is above 0; got {ridge}")
        unit = float(moment.double().diagonal().mean())
        identity = torch.eye(moment.shape[0], dtype=torch.float64, device=moment.device)
        e, Q = torch.linalg.eigh(moment.double() / (unit if unit > 0 else 1.0) + ridge * identity)
        e = e.clamp_min(1e-12)
        return ModeWeight((Q * e.sqrt()) @ Q.mT, (Q / e.sqrt()) @ Q.mT)

    def to(self, device: torch.device) -> ModeWeight:
        """The same weight on another device."""
        return ModeWeight(self.root.to(device), self.inverse_root.to(device))


@dataclass(frozen=True)
class InputNorm:
    """The norm in which a kernel (T x S x window) is decomposed.

    Attributes:
        channels: of the S input channels.
        taps: of the D^2 positions of the window; None for the plain norm there.
        outputs: of the T output channels; None for the plain norm there.
    """

    channels: ModeWeight
    taps: ModeWeight | None = None
    outputs: ModeWeight | None = None

    @staticmethod
    def of(moment: Tensor, ridge: float = 0.1) -> InputNorm:
        """The norm of the channels alone, from their second moment ``E x x'`` (S x S).

        The ridge keeps directions that a handful of images did not show.

        Raises:
            DecompositionError: not a square matrix of finite numbers, or a ridge that is not positive.
        """
        return InputNorm(ModeWeight.of(moment, ridge))

    @staticmethod
    def of_patches(moments: PatchMoments, taps: int, ridge: float = 0.03, outputs: Tensor | None = None) -> InputNorm:
        """The Kronecker surrogate of the covariance of whole patches of ``taps`` positions.

        Args:
            moments: of patches of S ``taps`` numbers.
            taps: D^2.
            ridge: added to the covariance, in units of the mean variance.
            outputs: second moment of a weight of the outputs (T x T), such as that of the gradients there.

        Raises:
            DecompositionError: ``taps`` does not divide the patches, or a ridge that is not positive.
        """
        if taps < 1 or moments.patch_size % taps:
            raise DecompositionError(f"a patch of {moments.patch_size} numbers has no {taps} taps")
        S = moments.patch_size // taps
        blocks = moments.Sigma.reshape(S, taps, S, taps)
        channels = ModeWeight.of(torch.einsum("sdtd->st", blocks) / taps, ridge)
        window = ModeWeight.of(torch.einsum("sdse->de", blocks) / S, ridge) if taps > 1 else None
        return InputNorm(channels, window, ModeWeight.of(outputs, ridge) if outputs is not None else None)

    def channels_only(self) -> InputNorm:
        """The same with the plain norm over window and outputs, for factors that cannot be weighed there."""
        return InputNorm(self.channels)

    def to(self, device: torch.device) -> InputNorm:
        """The same norm on another device."""
        taps = self.taps.to(device) if self.taps is not None else None
        outputs = self.outputs.to(device) if self.outputs is not None else None
        return InputNorm(self.channels.to(device), taps, outputs)

    def weigh(self, kernel: Tensor) -> Tensor:
        """``K x_S Sigma_S^(1/2) x_D Sigma_D^(1/2) x_T M_T^(1/2)`` of a kernel stored T x S x window, in float64."""
        K = mode_product(kernel.detach().double(), self.channels.root, 1)
        if self.outputs is not None:
            K = mode_product(K, self.outputs.root, 0)
        if self.taps is not None:
            K = (K.flatten(2) @ self.taps.root).reshape(kernel.shape)  # symmetric: no transpose
        return K

    def unweigh(self, factors: Any) -> Any:
        """The factors of a kernel (D^2 x S x T) from those of the weighed one.

        CP and Tucker-2 in every mode (the columns of a CP are rescaled, those of U and V are orthonormal no more);
        anything else through its ``times_input``.

        Raises:
            DecompositionError: factors that know their input channels alone, in a norm of more.
        """
        if isinstance(factors, CPTensor):
            A, B, C, *rest = factors.factors  # of an order above 3 the window is weighed in no mode
            return CPTensor((_times(self.taps, A), _times(self.channels, B), _times(self.outputs, C), *rest)).rescaled()
        if isinstance(factors, Tucker2Tensor):
            G = factors.G if self.taps is None else mode_product(factors.G, self.taps.inverse_root, 0)
            return Tucker2Tensor(G, _times(self.channels, factors.U), _times(self.outputs, factors.V))
        if self.taps is not None or self.outputs is not None:
            raise DecompositionError(
                f"{type(factors).__name__} factors are weighed over the input channels alone: use channels_only()"
            )
        return factors.times_input(self.channels.inverse_root)

    def roots(self) -> dict[str, Tensor]:
        """The roots that are present, by mode: what distinguishes one norm from another."""
        modes = {"channels": self.channels, "taps": self.taps, "outputs": self.outputs}
        return {name: weight.root for name, weight in modes.items() if weight is not None}


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


def _times(weight: ModeWeight | None, U: Tensor) -> Tensor:
    return U if weight is None else weight.inverse_root @ U
