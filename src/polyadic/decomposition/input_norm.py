"""Data-aware decomposition: measure the error of a kernel where its inputs are.

For an input ``x`` with second moment ``Sigma = E x x'`` over the channels (S x S), the output error of an
approximation is ``||(K - K^) x_S Sigma^(1/2)||``. So decompose ``K x_S Sigma^(1/2)`` in the plain norm and multiply the
S mode of the factors by ``Sigma^(-1/2)`` afterwards: any decomposition serves, and no label is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import mode_product
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class InputNorm:
    """The norm of the input channels.

    Attributes:
        root: ``Sigma^(1/2)``, S x S, symmetric, float64.
        inverse_root: ``Sigma^(-1/2)``.
    """

    root: Tensor
    inverse_root: Tensor

    @staticmethod
    def of(moment: Tensor, ridge: float = 0.1) -> InputNorm:
        """From a second moment ``E x x'`` (S x S): scaled to mean diagonal 1, with ``ridge`` added to the diagonal.

        The ridge keeps directions that a handful of images did not show.

        Raises:
            DecompositionError: not a square matrix of finite numbers.
        """
        regular = regularised(moment, ridge)
        e, Q = torch.linalg.eigh(regular)
        e = e.clamp_min(1e-12)
        return InputNorm((Q * e.sqrt()) @ Q.mT, (Q / e.sqrt()) @ Q.mT)

    def weigh(self, kernel: Tensor) -> Tensor:
        """``K x_S Sigma^(1/2)`` of a kernel stored T x S x window, in float64."""
        return mode_product(kernel.detach().double(), self.root.to(kernel.device), 1)


def regularised(moment: Tensor, ridge: float, scale: float | None = None) -> Tensor:
    """``moment / scale + ridge I`` in float64; ``scale`` is the mean of the diagonal when absent.

    Raises:
        DecompositionError: not a square matrix of finite numbers.
    """
    if moment.ndim != 2 or moment.shape[0] != moment.shape[1] or not bool(torch.isfinite(moment).all()):
        raise DecompositionError(f"a second moment is a square matrix of finite numbers; got {tuple(moment.shape)}")
    unit = float(moment.double().diagonal().mean()) if scale is None else scale
    identity = torch.eye(moment.shape[0], dtype=torch.float64, device=moment.device)
    return moment.double() / (unit if unit > 0 else 1.0) + ridge * identity


def corrected_kernel(kernel: Tensor, cross: Tensor, moment: Tensor, ridge: float = 0.1) -> Tensor:
    """The kernel that gives from inputs ``y`` of a compressed network what ``kernel`` gives from dense ones, ``x``.

    Least squares, with the ridge pulling to the identity: ``K x_S M'`` with ``M = (C_xy + r I) (C_yy + r I)^(-1)``.
    Each layer so repairs what the layers before it lost (the linear part of Zhang et al., TPAMI 2016).

    Args:
        kernel: T x S x window.
        cross: ``C_xy = E x y'`` (S x S).
        moment: ``C_yy = E y y'`` (S x S).
        ridge: after both are scaled so that ``C_yy`` has mean diagonal 1.

    Raises:
        DecompositionError: a moment is not a square matrix of finite numbers.
    """
    scale = float(moment.double().diagonal().mean())
    C_xy, C_yy = regularised(cross, ridge, scale), regularised(moment, ridge, scale)
    M = torch.linalg.solve(C_yy, C_xy.mT).mT  # C_xy C_yy^(-1); C_yy is symmetric
    return mode_product(kernel.detach().double(), M.mT.to(kernel.device), 1).to(kernel.dtype)
