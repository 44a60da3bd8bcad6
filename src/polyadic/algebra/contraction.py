"""Partial contractions of a batch of tensors with factor matrices, slice by slice while a slice is in cache.

Shapes: b counts the batch, h the leading modes taken together, j and l single modes, r the rank-one terms. What a
sweep over all factors needs is built from these four. Their large arrays live in a :class:`Scratch`: asking the system
for fresh memory in every sweep costs more than the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_SLICE = {"cpu": 2**17, "cuda": 2**26}  # numbers per slice: a core's second-level cache; a small part of the memory


class Scratch:
    """Memory that is used again and again, by name; what was taken is overwritten when the name is taken next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An array of ``shape`` with unspecified content, in the dtype and on the device of ``like``."""
        key, size = (name, like.dtype, like.device), math.prod(shape)
        kept = self._kept.get(key)
        if kept is None or kept.numel() < size:
            kept = self._kept[key] = like.new_empty(size)
        return kept[:size].view(shape)


def contract_last(X: Tensor, U: Tensor, scratch: Scratch) -> Tensor:
    """``sum_l X[b, h, l] U[b, l, r]`` (b x h x r), in scratch memory named "partial"."""
    return torch.matmul(X, U, out=scratch.take("partial", (*X.shape[:2], U.shape[-1]), X))


def contract_inner(P: Tensor, U: Tensor, scratch: Scratch) -> Tensor:
    """``sum_j P[b, h, j, r] U[b, j, r]`` (b x h x r)."""
    B, H, J, R = P.shape
    result = P.new_empty(B, H, R)
    for b, h in _slices(P.device, B, H, J * R):
        product = _product(P[b, h], U[b, None], scratch)
        torch.sum(product, 2, out=result[b, h])
    return result


def contract_leading(P: Tensor, W: Tensor, scratch: Scratch) -> Tensor:
    """``sum_h P[b, h, j, r] W[b, h, r]`` (b x j x r)."""
    B, H, J, R = P.shape
    result = P.new_zeros(B, J, R)
    for b, h in _slices(P.device, B, H, J * R):
        if h.stop - h.start == 1:
            result[b].addcmul_(P[b, h.start], W[b, h.start, None])
        else:
            result[b] += _product(P[b, h], W[b, h, None], scratch).sum(1)
    return result


def contract_all_but_last(X: Tensor, W: Tensor, U: Tensor, scratch: Scratch) -> Tensor:
    """``sum_hj X[b, h, j, l] W[b, h, r] U[b, j, r]`` (b x l x r): an MTTKRP without the whole Khatri-Rao product."""
    B, H, J, L = X.shape
    result = X.new_zeros(B, L, W.shape[-1])
    for b, h in _slices(X.device, B, H, J * W.shape[-1]):
        product = _product(W[b, h, None], U[b, None], scratch)
        result[b].baddbmm_(X[b, h].flatten(1, 2).mT, product.flatten(1, 2))
    return result


def _product(P: Tensor, Q: Tensor, scratch: Scratch) -> Tensor:
    shape = tuple(max(sizes) for sizes in zip(P.shape, Q.shape, strict=True))
    return torch.mul(P, Q, out=scratch.take("product", shape, P))


def _slices(device: torch.device, batch: int, leading: int, unit: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of b and h such that a slice holds about ``_SLICE`` numbers, ``unit`` for each pair (b, h)."""
    limit = _SLICE.get(device.type, _SLICE["cpu"])
    if leading * unit <= limit:
        step = max(1, limit // (leading * unit))
        for start in range(0, batch, step):
            yield slice(start, min(start + step, batch)), slice(0, leading)
        return
    step = max(1, limit // unit)
    for b in range(batch):
        for start in range(0, leading, step):
            yield slice(b, b + 1), slice(start, min(start + step, leading))
