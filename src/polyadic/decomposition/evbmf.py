r"""How many components of a matrix stand out of noise: analytic EVBMF (Nakajima et al., JMLR 14, 2013 and 16, 2015).

Empirical variational Bayesian matrix factorisation of ``Y = B A' + noise`` (L x M, L <= M) with Gaussian priors of
free variance and noise of variance ``sigma^2``. Its global solution is known in closed form: with ``alpha = L / M`` and
``x_h = s_h^2 / (M sigma^2)`` for the singular values ``s_h``, component h is kept where ``x_h`` exceeds

    x_ = (1 + tau_) (1 + alpha / tau_),     log(tau_ + 1) + alpha log(tau_ / alpha + 1) = tau_

(where ``2.5129 sqrt(alpha)`` is often put for ``tau_``, which is 3 % too small at alpha = 0.1), and shrunk to
``s_h tau(x_h) / x_h`` with ``tau(x) = (x - 1 - alpha + sqrt((x - 1 - alpha)^2 - 4 alpha)) / 2``. Where the noise is not
known, it minimises the free energy, which is up to constants

    Omega(sigma^2) = sum_h  x_h - log x_h + [x_h > x_] (log(tau_h + 1) + alpha log(tau_h / alpha + 1) - tau_h)

with ``tau_h = tau(x_h)``, between ``max(s_{H+1}^2 / x_, mean_{h > H} s_h^2) / M`` and ``sum_h s_h^2 / (L M)``, where
``H = ceil(L / (1 + alpha)) - 1``. So at most H components are ever found, fewer than half for a square matrix: of a
matrix with more, most are taken for noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import unfold
from polyadic.decomposition.solution import check_tensor
from polyadic.errors import DecompositionError

_GRID, _ZOOMS = 400, 8


@dataclass(frozen=True)
class EVBMF:
    """What EVBMF says of a matrix.

    Attributes:
        rank: how many components it keeps, 0 or more.
        noise_variance: ``sigma^2`` of one entry, estimated or as given.
        threshold: the singular value above which a component is kept, ``sqrt(M sigma^2 x_)``.
        singular_values: of the components kept, shrunk by what noise added to them (rank), float64.
    """

    rank: int
    noise_variance: float
    threshold: float
    singular_values: Tensor


def evbmf_rank(Y: Tensor, noise_variance: float | None = None, *, stored: torch.dtype | None = None) -> EVBMF:
    """The rank of ``Y`` under noise of that variance, or of the likeliest (Nakajima et al., JMLR 14, 2013).

    Cost: the singular values of ``Y``.

    Args:
        Y: rows x columns, in either order of size.
        noise_variance: of one entry; estimated when absent.
        stored: the type in which the entries were kept, whose rounding is no signal (:func:`rounding_of`); that of
            ``Y`` when absent.

    Raises:
        DecompositionError: not a matrix, NaN or Inf, a variance that is not a positive number.

    Example:
        >>> random = torch.Generator().manual_seed(0)
        >>> signal = torch.randn(60, 5, generator=random) @ torch.randn(5, 80, generator=random)
        >>> found = evbmf_rank(signal + 0.5 * torch.randn(60, 80, generator=random))
        >>> found.rank, round(found.noise_variance, 2)
        (5, 0.25)
    """
    X = check_tensor(Y, "evbmf_rank", order=2)
    if noise_variance is not None and not 0.0 < noise_variance < math.inf:
        raise DecompositionError(f"a variance of noise is a positive number; got {noise_variance}")
    L, M = sorted(X.shape)
    s = torch.linalg.svdvals(X).cpu()
    alpha = L / M
    tau_ = _tau_threshold(alpha)
    x_ = (1 + tau_) * (1 + alpha / tau_)
    rounding = rounding_of(X, stored or Y.dtype)
    variance = _likeliest_variance(s, M, x_, rounding) if noise_variance is None else noise_variance
    threshold = max(math.sqrt(M * variance * x_), rounding)
    kept = s[s > threshold]
    if variance == 0.0:  # a zero matrix
        return EVBMF(0, 0.0, 0.0, kept[:0])
    x = kept.square() / (M * variance)
    return EVBMF(len(kept), variance, threshold, kept * _tau(x, alpha) / x)


def rounding_of(X: Tensor, stored: torch.dtype) -> float:
    """The largest singular value that entries lost to rounding can make up, in any unfolding of ``X``.

    An entry ``x`` is rounded by at most ``|x| eps / 2``, or half the smallest subnormal number, so the lost part E has
    ``||E||_2 <= ||E||_F <= ||X||_F eps / 2 + ...``; by Weyl's inequality it moves no singular value by more. What
    float64 itself loses, in forming ``X`` and in the decomposition, adds the longest mode times its eps.
    """
    kind, own = torch.finfo(stored), torch.finfo(X.dtype)
    norm = float(X.norm())
    return norm * (kind.eps / 2 + max(X.shape) * own.eps) + math.sqrt(X.numel()) * kind.tiny * kind.eps / 2


def evbmf_tucker2_ranks(K: Tensor, *, stored: torch.dtype | None = None) -> tuple[int, int]:
    """(R1, R2) of a kernel D^2 x S x T: EVBMF of its unfoldings S x (D^2 T) and T x (D^2 S) (Kim et al., ICLR 2016).

    A rank is at least 1, so that a Tucker-2 decomposition can serve it, also where EVBMF sees noise alone. ``stored``
    is the type in which the entries were kept, as in :func:`evbmf_rank`.

    Raises:
        DecompositionError: a tensor not of order 3, NaN or Inf.
    """
    X = check_tensor(K, "evbmf_tucker2_ranks", order=3)
    R1, R2 = (max(1, evbmf_rank(unfold(X, mode), stored=stored or K.dtype).rank) for mode in (1, 2))
    return R1, R2


def support_core(K: Tensor, tolerance: float = 1e-5) -> Tensor:
    """A kernel D^2 x S x T without the directions of its channels in which it is nothing: D^2 x S' x T'.

    Directions that hold less than ``tolerance`` of the strongest one, or no more than the rounding of the dtype of
    ``K`` (:func:`rounding_of`), are nothing: they come of a factorisation, or of rounding after one, and EVBMF would
    take them for noise of an incredible smallness, below which every rank counts.
    What is left has the same singular values as ``K`` but for those (HOSVD); MUSCO looks at the same core when it
    factorises a layer for a second time (Gusak et al. 2019).

    Raises:
        DecompositionError: a tensor not of order 3, NaN or Inf.
    """
    X = check_tensor(K, "support_core", order=3)
    rounding = rounding_of(X, K.dtype)
    for mode in (1, 2):
        U, s, _ = torch.linalg.svd(unfold(X, mode), full_matrices=False)
        rank = max(1, int((s > max(tolerance * float(s[0]), rounding)).sum()))
        if rank < X.shape[mode]:
            X = torch.tensordot(X, U[:, :rank], dims=([mode], [0])).movedim(-1, mode)
    return X


def free_energy(s: Tensor, columns: int, variances: Tensor) -> Tensor:
    """``Omega`` for every one of ``variances`` (n), up to a constant, from all L singular values ``s`` of a matrix.

    Args:
        s: singular values (L), none of them 0.
        columns: M, the larger side.
        variances: positive.
    """
    alpha = len(s) / columns
    tau_ = _tau_threshold(alpha)
    x = s.square() / (columns * variances[:, None])  # n x L
    tau = _tau(x.clamp_min((1 + tau_) * (1 + alpha / tau_)), alpha)
    # at x_ the gain of keeping a component is 0, and below it the clamp leaves 0
    gain = torch.log1p(tau) + alpha * torch.log1p(tau / alpha) - tau
    return (x - torch.log(x) + gain).sum(1)


def _likeliest_variance(s: Tensor, M: int, x_: float, rounding: float) -> float:
    """The least free energy between its bounds: not convex, so on a grid in the logarithm, and closer around the best.

    Singular values below rounding count as rounding, or an exact low rank would have no noise and no free energy.
    """
    L = len(s)
    if s[0] == 0:
        return 0.0
    s = s.clamp_min(max(float(s[0]) * torch.finfo(s.dtype).eps, rounding))
    H = max(0, math.ceil(L / (1 + L / M)) - 1)
    tail = s[H:].square()
    lower = max(float(tail[0]) / x_, float(tail.mean())) / M
    upper = float(s.square().sum()) / (L * M)
    low, high = math.log(lower), math.log(max(lower, upper))
    for _ in range(_ZOOMS):
        grid = torch.linspace(low, high, _GRID, dtype=s.dtype)
        best = int(free_energy(s, M, grid.exp()).argmin())
        low, high = float(grid[max(0, best - 1)]), float(grid[min(_GRID - 1, best + 1)])
    return math.exp((low + high) / 2)


def _tau(x: Tensor, alpha: float) -> Tensor:
    """The larger root of ``x = (1 + tau) (1 + alpha / tau)``."""
    shifted = x - 1 - alpha
    return (shifted + (shifted.square() - 4 * alpha).clamp_min(0.0).sqrt()) / 2


def _tau_threshold(alpha: float) -> float:
    """The root of ``log(tau + 1) + alpha log(tau / alpha + 1) = tau``, where keeping a component pays nothing."""
    # left minus right is positive below the root and negative above; at sqrt(alpha) it is positive, at 4 negative
    low, high = math.sqrt(alpha), 4.0
    for _ in range(100):
        tau = (low + high) / 2
        if math.log1p(tau) + alpha * math.log1p(tau / alpha) > tau:
            low = tau
        else:
            high = tau
    return (low + high) / 2
