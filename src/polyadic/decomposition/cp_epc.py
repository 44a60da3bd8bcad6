r"""Error-preserving correction of a CP decomposition (Phan et al., ECCV 2020, eq. 10-13; IEEE TSP 67(5), 2019).

Among all CP decompositions whose error stays below ``delta``, look for the one of least sensitivity, factor after
factor:

    min ||A diag(w)||^2   subject to   ||K_(1) - A Z'||^2 <= delta^2,        Z = C (kr) B, w_r^2 = L b_r^2 + J c_r^2.

With ``A~ = A diag(w)``, ``G~ = K_(1) Z diag(1/w)``, ``Gamma~ = diag(1/w) Gamma diag(1/w) = Q diag(e) Q'``,
``F = G~ Q`` and ``f_r^2 = ||F(:, r)||^2`` the minimiser is ``A~(mu) = F diag(1 / (e + mu)) Q'`` where ``mu`` is the
only root of

    phi(mu) = sum_r (f_r^2 / e_r) (mu / (e_r + mu))^2 = delta^2 - eps_min,    eps_min = ||K||^2 - sum_r f_r^2 / e_r,

so one R x R eigendecomposition and a scalar equation replace the quadratic programme over a sphere. It is ridge
regression whose ridge follows from the discrepancy principle. After every sweep the columns are rescaled to their best
norms (:meth:`polyadic.algebra.CP.rescaled`): the tensor stays, the sensitivity falls in closed form. With that
rescaling the paper's ``ss`` and the true sensitivity have the same iterates up to scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CP
from polyadic.decomposition.alternation import Block, alive, solve_gram, sweep, unit_tensor
from polyadic.decomposition.solution import Solution, StopReason, checked, finished, relative_error
from polyadic.errors import DecompositionError


@dataclass(frozen=True)
class EPCOptions:
    """How far and how long the correction runs.

    Attributes:
        error_slack: the error may grow to ``1 + error_slack`` times that of the given factors.
        max_sweeps: most sweeps.
        tolerance: stop when the sensitivity changes by less than this fraction ...
        patience: ... this many sweeps in a row.
    """

    error_slack: float = 0.0
    max_sweeps: int = 500
    tolerance: float = 1e-6
    patience: int = 10


def cp_epc(K: Tensor, cp: CP, options: EPCOptions | None = None) -> Solution[CP]:
    """Lower the sensitivity of ``cp`` (factors of ``K``, I x J x L) while its error stays within the slack.

    Returns:
        Factors whose error is at most ``1 + error_slack`` times the given one (up to rounding), and which are no more
        sensitive than the given ones.

    Raises:
        DecompositionError: NaN or Inf, factors that do not fit ``K``, a negative slack.
    """
    options = options or EPCOptions()
    if not options.error_slack >= 0:
        raise DecompositionError(f"an error slack is a fraction >= 0; got {options.error_slack}")
    X, norm = unit_tensor(checked(K, "cp_epc", order=3))
    if cp.shape != tuple(X.shape):
        raise DecompositionError(f"the factors make a {cp.shape} tensor, the tensor is {tuple(X.shape)}")
    if not all(bool(torch.isfinite(U).all()) for U in cp.factors):
        raise DecompositionError("cp_epc corrects finite factors; got NaN or Inf among them: decompose again")
    if norm == 0:
        zero = CP(tuple(torch.zeros_like(U) for U in cp.factors))
        return finished(K, zero, 1.0, StopReason.CLOSED_FORM, [])
    current = cp.to(X).scaled(1.0 / norm).rescaled()
    bound = ((1.0 + options.error_slack) * relative_error(X, current)) ** 2
    return finished(K, *_corrected(X, current, bound, norm, options))


def _corrected(
    X: Tensor, cp: CP, bound: float, norm: float, options: EPCOptions
) -> tuple[CP, float, StopReason, list[float]]:
    """Sweep until the sensitivity stands still, keeping the least sensitive factors that obey the bound."""
    best, lowest = cp, cp.sensitivity()
    history: list[float] = []
    previous, quiet = lowest, 0
    for _ in range(options.max_sweeps):
        cp, error = sweep(X, alive(cp), lambda block: least_sensitive(block, bound))
        cp = cp.rescaled()
        history.append(error)
        sensitivity = cp.sensitivity()
        if sensitivity < lowest and error <= bound + 1e-13:
            best, lowest = cp, sensitivity
        quiet = quiet + 1 if abs(previous - sensitivity) <= options.tolerance * max(previous, 1e-300) else 0
        previous = sensitivity
        if quiet >= options.patience:
            return best, norm, StopReason.CONVERGED, history
    return best, norm, StopReason.MAX_SWEEPS, history


def least_sensitive(block: Block, bound: float) -> Tensor:
    """The factor of least weighted norm with squared error at most ``bound`` (the sub-problem above; ``||K|| = 1``).

    Where no factor meets the bound, the least-squares one; where zero meets it, zero.
    """
    w = block.weight.clamp_min(1e-200).sqrt()  # 0 for a term that died in this sweep, whose G and Gamma are 0 too
    G, Gamma = block.G / w, block.Gamma / torch.outer(w, w)
    e, Q = torch.linalg.eigh(Gamma)
    kept = e > 1e-13 * e[-1]  # F has no part in the null space of Gamma: the columns of Z span both
    e, Q = e[kept], Q[:, kept]
    F = G @ Q
    f2 = F.square().sum(0)
    energy = f2 / e
    slack = bound - (1.0 - float(energy.sum()))  # delta^2 - eps_min
    if slack <= 0:
        return solve_gram(block.Gamma, block.G)
    if bound >= 1.0:
        return torch.zeros_like(block.factor)
    mu = _secular_root(energy, e, slack)
    factor: Tensor = (F / (e + mu)) @ Q.mT / w
    return factor


def _secular_root(energy: Tensor, e: Tensor, target: float) -> float:
    """The root of ``phi(mu) = sum energy (mu / (e + mu))^2 = target``: Newton on log(mu) inside a shrinking bracket.

    With ``tau = sqrt(target / sum energy)``, ``mu / (e + mu)`` is between its values at the ends of the spectrum, hence
    ``e_min tau / (1 - tau) <= mu <= e_max tau / (1 - tau)``. The root is met from below, to 2e-12: the bound is kept.
    """
    values, weights = e.cpu().numpy(), energy.cpu().numpy()
    tau = min(math.sqrt(target / float(weights.sum())), 1.0 - 1e-12)
    low, high = (math.log(float(end) * tau / (1.0 - tau)) for end in (values[0], values[-1]))
    x = 0.5 * (low + high)
    for _ in range(100):
        mu = math.exp(x)
        share = mu / (values + mu)
        phi = float((weights * share**2).sum())
        if (1.0 - 2e-12) * target <= phi <= target or high - low < 1e-14:
            break
        aim = (1.0 - 1e-12) * target
        low, high = (x, high) if phi < aim else (low, x)
        slope = float((2.0 * weights * share**2 * values / (values + mu)).sum())  # d phi / d log(mu)
        x = x + (aim - phi) / slope if slope > 0 else math.inf
        if not low < x < high:
            x = 0.5 * (low + high)
    return math.exp(x)
