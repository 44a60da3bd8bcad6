r"""One factor of a CP under a quadratic bound: of least size at a bounded error, or of least error at a bounded size.

With ``w^2`` the weights of an objective ``sum_r w_r^2 ||a_r||^2``, put ``A~ = A diag(w)``, ``G~ = G diag(1/w)``,
``Gamma~ = diag(1/w) Gamma diag(1/w) = Q diag(e) Q'`` and ``F = G~ Q``. Then

    ||K_(1) - A Z'||^2 = ||K||^2 - 2 <G~, A~> + <A~ Gamma~, A~>,

and ridge regression is ``A~(mu) = F diag(1 / (e + mu)) Q'`` with error
``eps_min + sum_r (f_r^2 / e_r) (mu / (e_r + mu))^2`` and size ``||A~||^2 = sum_r (f_r / (e_r + mu))^2``, where
``f_r = ||F(:, r)||`` and ``eps_min = ||K||^2 - sum_r f_r^2 / e_r``. Both "least size at a bounded error" and "least
error at a bounded size" are met by one mu, the root of one monotone function: a sum of ``c_r^2 / (d_r + t)^2``, with
``t = 1 / mu`` in the first case and ``t = mu`` in the second. :class:`Objective` says what the weights may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block, sensitivity_weight, solve_gram

_NEGLIGIBLE = 1e-13  # of the largest eigenvalue: below it Z has no column left, and F is rounding


class Objective(Enum):
    """The three measures of how a CP decomposition stands small changes, any of which a correction may lower.

    With A the factor in question and B, C the others, each is ``sum_r w_r^2 ||a_r||^2`` plus what A does not touch:

        SENSITIVITY   sum_r (I b^2 c^2 + J a^2 c^2 + L a^2 b^2)    w_r^2 = J c_r^2 + L b_r^2     Tichavsky et al. 2019
        LEMMA         sum_r (b^2 c^2 + a^2 c^2 + a^2 b^2)          w_r^2 = c_r^2 + b_r^2         Phan et al. 2020, eq. 5
        INTENSITY     sum_r a^2 b^2 c^2                            w_r^2 = b_r^2 c_r^2           Phan et al. 2019

    Once columns are rescaled, the first two differ by a constant factor and have the same iterates.
    """

    SENSITIVITY = "sensitivity"
    LEMMA = "lemma"
    INTENSITY = "intensity"

    def of(self, cp: CPTensor) -> Tensor:
        """Its value, one for each of the batch."""
        if self is Objective.INTENSITY:
            return cp.sum_squared_intensity()
        return cp.sensitivity_lemma() if self is Objective.LEMMA else cp.sensitivity()

    def weight(self, block: Block) -> Tensor:
        """``w^2`` (b x R)."""
        if self is Objective.INTENSITY:
            return block.norms.prod(-2)
        sizes = [1] * len(block.sizes) if self is Objective.LEMMA else block.sizes
        return sensitivity_weight(block.norms, sizes)

    def untouched(self, block: Block) -> Tensor:
        """The part that the factor of ``block`` does not move (b)."""
        if self is Objective.INTENSITY:
            return torch.zeros_like(block.norms[:, 0, 0])
        size = 1 if self is Objective.LEMMA else int(block.factor.shape[-2])
        return size * block.norms.prod(-2).sum(-1)

    def balanced(self, cp: CPTensor) -> CPTensor:
        """The same tensor with the column norms at which this objective is least."""
        return cp.rescaled(equal=self is Objective.LEMMA)


def least_sensitive(block: Block, bound: Tensor, objective: Objective = Objective.SENSITIVITY) -> Tensor:
    """The factor (b x I x R) of least weighted norm with squared error at most ``bound`` (b), where ``||K|| = 1``.

    Where no factor meets the bound, the least-squares one; where zero meets it, zero.
    """
    spectrum = WeightedSpectrum.of(block, objective.weight(block))
    slack = bound - (1.0 - spectrum.energy.sum(-1))  # delta^2 - eps_min
    reachable, zero_serves = slack > 0, bound >= 1.0
    factor = spectrum.ridge(spectrum.ridge_of_error(torch.where(reachable & ~zero_serves, slack, 1.0)))
    if not bool(reachable.all()):
        factor = torch.where(reachable[:, None, None], factor, solve_gram(block.Gamma, block.G))
    return torch.where(zero_serves[:, None, None], 0.0, factor)


def best_within(block: Block, bound: Tensor, objective: Objective) -> Tensor:
    """The factor (b x I x R) of least error whose objective, with the other factors, is at most ``bound`` (b)."""
    spectrum = WeightedSpectrum.of(block, objective.weight(block))
    size = (bound - objective.untouched(block)).clamp_min(0.0)
    return spectrum.ridge(spectrum.ridge_of_size(size))


@dataclass(frozen=True)
class WeightedSpectrum:
    """``e`` (b x R, 0 where negligible), ``F`` (b x I x R), ``Q`` (b x R x R) and ``w`` (b x R) as above."""

    e: Tensor
    F: Tensor
    Q: Tensor
    w: Tensor

    @staticmethod
    def of(block: Block, weight: Tensor) -> WeightedSpectrum:
        """From a sub-problem and ``w^2`` (b x R); a dead term, whose weight may be 0, stays dead."""
        w = torch.where(weight > 0, weight.clamp_min(1e-200).sqrt(), 1.0)
        e, Q = torch.linalg.eigh(block.Gamma / (w[..., None, :] * w[..., :, None]))
        kept = e > _NEGLIGIBLE * e[..., -1:].clamp_min(0.0)
        F = (block.G / w[..., None, :]) @ Q
        return WeightedSpectrum(torch.where(kept, e, 0.0), F * kept[..., None, :], Q, w)

    @property
    def energy(self) -> Tensor:
        """``f_r^2 / e_r`` (b x R): what each direction explains of ``||K||^2``."""
        return torch.where(self.e > 0, self.F.square().sum(-2) / self.e.clamp_min(1e-300), 0.0)

    def ridge(self, mu: Tensor) -> Tensor:
        """``A(mu)`` (b x I x R) for one ``mu >= 0`` per member; the least-squares factor of least size at 0."""
        inverse = torch.where(self.e > 0, 1.0 / (self.e + mu[..., None]).clamp_min(1e-300), 0.0)
        return (self.F * inverse[..., None, :]) @ self.Q.mT / self.w[..., None, :]

    def ridge_of_error(self, slack: Tensor) -> Tensor:
        """``mu`` (b) with error ``eps_min + slack``; inf where the slack covers all that is explained."""
        e = self.e.clamp_min(1e-300)
        # mu / (e + mu) = 1 / (1 + e t) = (1 / e) / (1 / e + t)
        c2 = torch.where(self.e > 0, self.energy / e.square(), 0.0)
        t = secular_root(c2, torch.where(self.e > 0, 1.0 / e, 1.0), slack)
        return 1.0 / t

    def ridge_of_size(self, size: Tensor) -> Tensor:
        """``mu`` (b) with ``||A~||^2 = size``; 0 where least squares is not larger."""
        return secular_root(self.F.square().sum(-2), torch.where(self.e > 0, self.e, 1.0), size)


def secular_root(c2: Tensor, d: Tensor, target: Tensor) -> Tensor:
    """The root ``t >= 0`` (b) of ``psi(t) = sum_r c2_r / (d_r + t)^2 = target``; 0 where ``psi(0) <= target``.

    Newton's method on ``1 / sqrt(psi)``, which is concave and nearly straight, from a point left of the root: it comes
    down on it from the left without a safeguard (More and Sorensen 1983). The target is met from below, to 2e-12.
    """
    aim = (1.0 - 1e-12) * target.clamp_min(1e-300)[..., None]
    # no single term exceeds the target at the root
    t = ((c2 / aim).sqrt() - d).amax(-1, keepdim=True).clamp_min(0.0)
    for _ in range(100):
        share = c2 / (d + t).square()
        psi = share.sum(-1, keepdim=True)
        above = psi > target[..., None]
        if not bool(above.any()):
            break
        step = (psi / (share / (d + t)).sum(-1, keepdim=True)) * ((psi / aim).sqrt() - 1.0)
        t = t + torch.where(above, step, 0.0).clamp_min(0.0)  # who is there waits; where c2 is zero, step is NaN
    return t[..., 0]
