"""Unfoldings of a tensor, and of a convolution kernel between its two layouts."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unfold(X: Tensor, mode: int) -> Tensor:
    """Mode-``mode`` unfolding ``X_(mode)``.

    I_mode rows, the other modes in their order as columns (the last fastest).
    """
    return torch.movedim(X, mode, 0).reshape(X.shape[mode], -1)


def kernel_to_order3(K: Tensor) -> Tensor:
    """PyTorch's kernel ``T x S x D1 x D2 ...`` as the literature's ``(D1 D2 ...) x S x T``.

    Source: Phan et al. 2020, eq. 2.
    """
    T, S = K.shape[:2]
    return K.reshape(T, S, -1).permute(2, 1, 0)


def order3_to_kernel(X: Tensor, window: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`kernel_to_order3`: ``(prod(window)) x S x T`` to ``T x S x window``."""
    I, S, T = X.shape
    if math.prod(window) != I:
        raise ValueError(f"a window {window} has {math.prod(window)} taps, but the tensor's first mode has {I}")
    return X.permute(2, 1, 0).reshape(T, S, *window)
