"""What a truncated kernel is compared with: a random kernel of the same norm, a random error of the same norm."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seeded(seed: int, *names: str) -> torch.Generator:
    """A generator for one purpose: the same seed and names, the same numbers, in whatever order work is done."""
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def gaussian_like(K: Tensor, generator: torch.Generator) -> Tensor:
    """Independent normal entries in the shape, dtype and norm of ``K``: a kernel that has learnt nothing."""
    noise = torch.randn(K.shape, generator=generator, dtype=torch.float64).to(K.device)
    scale: Tensor = K.double().norm() / noise.norm()
    return (noise * scale).to(K.dtype)


def perturb(K: Tensor, truncated: Tensor, generator: torch.Generator) -> Tensor:
    """``K`` plus normal noise as long as ``K - truncated``: the same loss of norm without its structure."""
    noise = torch.randn(K.shape, generator=generator, dtype=torch.float64).to(K.device)
    scale: Tensor = (K.double() - truncated.double()).norm() / noise.norm()
    return (K.double() + noise * scale).to(K.dtype)
