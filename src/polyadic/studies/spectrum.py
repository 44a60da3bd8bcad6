"""The singular values of a kernel along a cut, how correlated its two sides are, and what both are compared with.

With ``p_k = sigma_k^2 / sum sigma^2`` the entanglement entropy is ``H = -sum p_k log p_k`` in nats: 0 for one singular
value, ``log n`` for n equal ones. The effective rank is ``exp(H)`` (Roy and Vetterli, EUSIPCO 2007, of p rather than of
sigma), the participation ratio ``1 / sum p^2``; both count how many singular values matter.

Two controls stand beside them: a random kernel of the same norm, and a random error of the same norm.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.studies.cuts import Cut


@dataclass(frozen=True)
class Spectrum:
    """Singular values, largest first."""

    values: tuple[float, ...]

    @staticmethod
    def of(K: Tensor, cut: Cut) -> Spectrum:
        """Those of ``K`` (T x S x D_h x D_w) along ``cut``, computed in float64."""
        return Spectrum(tuple(torch.linalg.svdvals(cut.matrix(K.detach().double())).tolist()))

    @property
    def weights(self) -> tuple[float, ...]:
        """``p_k``; all 0 for the zero kernel."""
        total = math.fsum(value**2 for value in self.values)
        return tuple(value**2 / total if total > 0 else 0.0 for value in self.values)

    @property
    def entropy(self) -> float:
        """``-sum p log p`` in nats."""
        return max(0.0, -math.fsum(p * math.log(p) for p in self.weights if p > 0))

    @property
    def effective_rank(self) -> float:
        """``exp(entropy)``."""
        return math.exp(self.entropy)

    @property
    def participation(self) -> float:
        """``1 / sum p^2``; 1 for the zero kernel."""
        squares = math.fsum(p**2 for p in self.weights)
        return 1.0 / squares if squares > 0 else 1.0

    def norm_loss(self, rank: int) -> float:
        """``||K - K^|| / ||K||`` of the kernel truncated to ``rank``."""
        return math.sqrt(max(0.0, math.fsum(self.weights[rank:])))


def seeded_generator(seed: int, *names: str) -> torch.Generator:
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
