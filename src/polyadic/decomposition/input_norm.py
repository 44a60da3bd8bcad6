"""Data-aware decomposition: measure the error of a kernel where its inputs are.

For patches ``y`` with covariance ``Sigma`` (S D^2 x S D^2) the output error of an approximation is
``||(K - K^) Sigma^(1/2)||`` with K as a T x S D^2 matrix. A root of the whole Sigma would mix channels and taps, and a
decomposition that keeps them apart could not be taken out of it again. Its Kronecker surrogate can:

    Sigma ~ Sigma_S (x) Sigma_D,        K' = K x_S Sigma_S^(1/2) x_D Sigma_D^(1/2),

with ``Sigma_S`` the mean over the taps and ``Sigma_D`` the mean over the channels. So decompose ``K'`` in the plain
norm and multiply the factors by the inverse roots afterwards: any decomposition serves, and no label is needed. What
the surrogate leaves out the last factor can win back exactly
(:func:`polyadic.decomposition.patch_moments.fitted_kernel`). A weight of the outputs enters the T mode the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, Tucker2Tensor, mode_product
from polyadic.decomposition.patch_moments import PatchMoments
from polyadic.errors import DecompositionError


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


def _times(weight: ModeWeight | None, U: Tensor) -> Tensor:
    return U if weight is None else weight.inverse_root @ U
