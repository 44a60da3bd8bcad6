"""Seeded, class-stratified splits: every class gives the same share, to within one image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polyadic.errors import DataError

# Below this many training images, 10 % are too few to decide anything by, and 20 % are held out.
_SMALL = 5000
_SMALL_SHARE = 0.20
_SHARE = 0.10
_MOST = 5000


def default_held_out(images: int) -> int:
    """How many of ``images`` training images are held out: 10 %, at most 5000; 20 % when there are under 5000."""
    if images < _SMALL:
        return max(1, int(images * _SMALL_SHARE))
    return min(_MOST, int(images * _SHARE))


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0 .. N - 1 into (rest, part) with ``size`` indices in ``part``, each class in its proportion.

    ``labels`` is int64 (N,). Class c of n_c images gives floor(size n_c / N), and the classes with the largest
    remainders (ties in seeded order) one more. Both index tensors are in seeded random order, so that any prefix of
    them is a fair sample; the same labels, size and seed give the same split. Raises DataError unless 1 <= size < N and
    seed >= 0.
    """
    total = len(labels)
    if not 1 <= size < total:
        raise DataError(
            f"a held-out part has 1..{total - 1} of the {total} images; got {size}: give a number in between"
        )
    if seed < 0:
        raise DataError(f"a seed is a whole number from 0; got {seed}: leave it out for 0")
    random = np.random.default_rng(seed)
    order = random.permutation(total)
    classes, counts = np.unique(labels.numpy(), return_counts=True)
    quota, remainder = np.divmod(size * counts, total)
    ties = random.permutation(len(classes))
    largest = ties[np.argsort(-remainder[ties], kind="stable")]
    quota[largest[: size - int(quota.sum())]] += 1
    shuffled = labels.numpy()[order]
    chosen = np.zeros(total, dtype=bool)
    for label, share in zip(classes, quota, strict=True):
        chosen[np.flatnonzero(shuffled == label)[:share]] = True
    return torch.from_numpy(order[~chosen]), torch.from_numpy(order[chosen])
