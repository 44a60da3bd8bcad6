"""What is wrong with a CP decomposition, if anything: how its terms cancel and how well they are told apart.

Where no best approximation of a rank exists, every sequence of CP decompositions whose error falls to the infimum is
*degenerate*: the norms of some terms tend to infinity while their columns become linearly dependent (Krijnen, Dijkstra
and Stegeman, Psychometrika 73, 2008). For two such terms the cosine, the product over the modes of the cosines of
their columns, tends to -1 (Kruskal, Harshman and Lundy 1989). Of a decomposition that has stopped on its way we say
"degenerate" when both show at once:

    cosine of some two terms < -0.9      and      sum_r lambda_r^2 > 10 ||K||^2.

The theory names the limit and no thresholds; these two are ours, and they meet: two terms of equal norm that make K
alone have ``sum lambda^2 = ||K||^2 / (1 + cosine)``. Either sign alone is harmless: terms may be nearly opposite and
small, or many and large together. In larger groups of cancelling terms no pair need be opposite; there the
condition of the Gram tells.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.batch import check_factors
from polyadic.decomposition.solution import Stability, check_tensor, relative_error
from polyadic.errors import DecompositionError

_CANCELLING = -0.9  # cosine of two terms
_EXCESS = 10.0  # sum of squared intensities over ||K||^2


@dataclass(frozen=True)
class Diagnosis:
    """The state of a CP decomposition, of the factors of ``K / ||K||`` with balanced columns.

    Attributes:
        stability: sensitivity (true and as the lemma prints it), sum of squared intensities, intensity ratio.
        intensities: norms of the rank-one terms, largest first.
        congruence: cosine of the two different terms for which its absolute value is largest; 0 for a single term.
        pair: which two terms these are, the smaller number first; None for a single term.
        opposition: the smallest cosine of two different terms; near -1 they all but cancel. 0 for a single term.
        gram_condition: condition number of the Gram (R x R) of the terms scaled to norm 1, that is, of the elementwise
            product of the Grams of unit-norm columns; zero terms left out. Infinite where terms are linearly dependent.
        relative_error: ``||K - K^|| / ||K||``, if K was given.
        degenerate: whether two terms cancel and are large.
        verdict: the same in a sentence, with the figures.
    """

    stability: Stability
    intensities: tuple[float, ...]
    congruence: float
    pair: tuple[int, int] | None
    opposition: float
    gram_condition: float
    relative_error: float | None
    degenerate: bool
    verdict: str


def diagnose(cp: CPTensor, K: Tensor | None = None) -> Diagnosis:
    """Examine the factors ``cp`` (I_n x R each, any order) of the tensor ``K``, or of ``cp.full()`` without K.

    Costs ``R^2 (I_1 + ... + I_N)`` operations and, if K is given, one reconstruction.

    Raises:
        DecompositionError: factors that do not fit K, NaN or Inf, a batch of decompositions.
    """
    if any(U.ndim != 2 for U in cp.factors):
        raise DecompositionError("diagnose takes one decomposition; got a batch: index it first")
    error = None
    if K is not None:
        norm = float(check_tensor(K, "diagnose").norm())
        check_factors(cp, K, "diagnose")
        error = relative_error(K, cp)
    else:
        if not cp.is_finite():
            raise DecompositionError("diagnose takes finite factors; got NaN or Inf among them: decompose again")
        norm = float(cp.double().squared_norm().clamp_min(0.0).sqrt())
    cp = cp.double()
    stability = Stability.of(cp, norm)
    intensities = cp.scaled(1.0 / norm if norm > 0 else 1.0).intensities()
    cosines = _cosines(cp)
    of_pairs = {pair: float(cosines[pair]) for pair in itertools.combinations(range(cp.rank), 2)}
    pair = max(of_pairs, key=lambda pair: abs(of_pairs[pair]), default=None)
    opposition = min(of_pairs.values(), default=0.0)
    degenerate = opposition < _CANCELLING and stability.sum_squared_intensity > _EXCESS
    return Diagnosis(
        stability=stability,
        intensities=tuple(sorted(intensities.tolist(), reverse=True)),
        congruence=0.0 if pair is None else of_pairs[pair],
        pair=pair,
        opposition=opposition,
        gram_condition=_condition(cosines[intensities > 0][:, intensities > 0]),
        relative_error=error,
        degenerate=degenerate,
        verdict=_verdict(degenerate, opposition, stability.sum_squared_intensity),
    )


def _cosines(cp: CPTensor) -> Tensor:
    """``<term q, term r> / (||term q|| ||term r||)`` (R x R); 0 for a zero term."""
    product = torch.ones(cp.rank, cp.rank, dtype=torch.float64, device=cp.factors[0].device)
    for U in cp.factors:
        lengths = U.norm(dim=0)
        unit = torch.where(lengths > 0, U / torch.where(lengths > 0, lengths, 1.0), 0.0)
        product = product * (unit.mT @ unit)
    return product


def _condition(gram: Tensor) -> float:
    if not len(gram):
        return 1.0
    e = torch.linalg.eigvalsh(gram)
    smallest, largest = float(e[0]), float(e[-1])
    return largest / smallest if smallest > 1e-15 * len(gram) * largest else math.inf


def _verdict(degenerate: bool, opposition: float, excess: float) -> str:
    figures = f"smallest cosine of two terms {opposition:.3f}, sum of squared intensities {excess:.3g} ||K||^2"
    if degenerate:
        return (
            f"degenerate: large terms cancel ({figures}): correct with cp_epc, decompose with stable_cp, or change the "
            "rank"
        )
    if excess > _EXCESS:
        return f"not degenerate, though its terms are large together ({figures}): cp_epc would make them smaller"
    if opposition < _CANCELLING:
        return f"not degenerate: two terms are nearly opposite, but small ({figures})"
    return f"not degenerate ({figures})"
