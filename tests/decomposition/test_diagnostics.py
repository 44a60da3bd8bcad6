"""The diagnosis of a CP decomposition against terms formed one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import batch_of, border_rank, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import ALSOptions, Stability, cp_als, diagnose, stable_cp
from polyadic.errors import DecompositionError

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple)


def terms(cp: CPTensor) -> torch.Tensor:
    """Every rank-one term as a vector (R x entries)."""
    return torch.stack([CPTensor(tuple(U[:, [r]] for U in cp.factors)).full().flatten() for r in range(cp.rank)])


@given(SHAPES, st.integers(1, 4), st.integers(0, 1000))
def test_all_figures_are_those_of_the_terms_formed_one_by_one(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp, K = gaussian_cp(shape, R, seed), 5.0 * gaussian(*shape, seed=seed)
    diagnosis, T, norm = diagnose(cp, K), terms(cp), float(K.norm())
    assert diagnosis.relative_error == pytest.approx(float((K - T.sum(0).reshape(shape)).norm()) / norm, rel=1e-9)
    assert list(diagnosis.intensities) == pytest.approx(sorted((T.norm(dim=1) / norm).tolist(), reverse=True), rel=1e-9)
    assert diagnosis.stability == Stability.of(cp, norm)
    unit = T / T.norm(dim=1, keepdim=True)
    cosines = {(q, r): float(unit[q] @ unit[r]) for q, r in itertools.combinations(range(R), 2)}
    if R > 1:
        assert diagnosis.congruence == pytest.approx(cosines[diagnosis.pair], abs=1e-12)
        assert abs(diagnosis.congruence) == pytest.approx(max(map(abs, cosines.values())), abs=1e-12)
        assert diagnosis.opposition == pytest.approx(min(cosines.values()), abs=1e-12)
    condition = float(np.linalg.cond((unit @ unit.mT).numpy()))
    if condition < 1e10:
        assert diagnosis.gram_condition == pytest.approx(condition, rel=1e-3)
    else:
        assert diagnosis.gram_condition > 1e9


def test_als_near_a_border_rank_tensor_is_degenerate_and_says_so() -> None:
    K = border_rank()
    diagnosis = diagnose(cp_als(K, 2, ALSOptions(max_sweeps=1000, tolerance=-1.0)).factors, K)
    assert diagnosis.degenerate
    assert diagnosis.verdict.startswith("degenerate: large terms cancel")
    assert diagnosis.pair == (0, 1)
    assert diagnosis.opposition < -0.93
    assert diagnosis.gram_condition > 20
    # two terms of equal norm that make the tensor alone
    assert diagnosis.stability.sum_squared_intensity == pytest.approx(1.0 / (1.0 + diagnosis.opposition), rel=0.05)


def test_an_ordinary_decomposition_is_not_degenerate() -> None:
    K = gaussian(4, 5, 6)
    diagnosis = diagnose(stable_cp(K, 3).factors, K)
    assert not diagnosis.degenerate
    assert diagnosis.verdict.startswith("not degenerate")
    assert diagnosis.gram_condition < 20


def opposite(size: float) -> CPTensor:
    """Two terms under a cosine of almost -1, and a third of norm 1 that is orthogonal to both."""
    e = torch.eye(3, dtype=torch.float64)
    tilted = e[0] + 0.01 * e[1]
    A = torch.stack([size * e[0], -size * tilted, e[2]], 1)
    plain = torch.stack([e[0], e[0], e[2]], 1)
    return CPTensor((A, plain, plain))


def test_either_sign_alone_is_not_degeneracy() -> None:
    small = diagnose(opposite(0.1))
    assert (small.degenerate, small.opposition < -0.99) == (False, True)
    assert "nearly opposite, but small" in small.verdict
    assert diagnose(opposite(1000.0)).degenerate
    # three terms that cancel together, no two of them opposite
    angles = 2.0 * math.pi / 3.0 * torch.arange(3, dtype=torch.float64)
    fan = torch.stack([angles.cos(), angles.sin(), 0.1 * torch.ones(3).double()])
    alike = torch.eye(3, dtype=torch.float64)[:, [0, 0, 0]]
    spread = diagnose(CPTensor((fan, alike, alike)))
    assert spread.stability.sum_squared_intensity > 30
    assert -0.6 < spread.opposition < -0.4
    assert not spread.degenerate
    assert "large together" in spread.verdict


def test_dependent_terms_have_an_infinite_condition_and_zero_terms_none() -> None:
    equal = CPTensor(tuple(U[:, [0, 1, 0]] for U in gaussian_cp((3, 4, 5), 2).factors))
    diagnosis = diagnose(equal)
    assert diagnosis.gram_condition == math.inf
    assert (diagnosis.pair, diagnosis.congruence) == ((0, 2), pytest.approx(1.0))
    padded = diagnose(gaussian_cp((3, 4, 5), 2).padded(4))
    assert padded.gram_condition == pytest.approx(diagnose(gaussian_cp((3, 4, 5), 2)).gram_condition)
    assert padded.intensities[2:] == (0.0, 0.0)


def test_without_the_tensor_figures_are_relative_to_the_factors_own() -> None:
    cp = gaussian_cp((3, 4, 5), 3)
    own, given_tensor = diagnose(cp), diagnose(cp, cp.full())
    assert own.relative_error is None
    assert given_tensor.relative_error == pytest.approx(0.0, abs=1e-12)
    assert own.stability.sensitivity == pytest.approx(given_tensor.stability.sensitivity, rel=1e-12)
    assert own.intensities == pytest.approx(given_tensor.intensities, rel=1e-12)


def test_a_single_term_and_a_zero_one_have_a_diagnosis() -> None:
    one = diagnose(gaussian_cp((3, 4, 5), 1))
    assert (one.pair, one.congruence, one.opposition, one.gram_condition) == (None, 0.0, 0.0, pytest.approx(1.0))
    zero = diagnose(CPTensor(tuple(torch.zeros(size, 2).double() for size in (3, 4, 5))), torch.zeros(3, 4, 5))
    assert (zero.degenerate, zero.intensities, zero.gram_condition) == (False, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_types_are_examined_in_float64(dtype: torch.dtype) -> None:
    cp = CPTensor(tuple(U.to(dtype) for U in gaussian_cp((3, 4, 5), 2).factors))
    double = CPTensor(tuple(U.double() for U in cp.factors))
    assert diagnose(cp) == diagnose(double)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: diagnose(batch_of(gaussian_cp((3, 4, 5), 2))), "got a batch"),
        (lambda: diagnose(gaussian_cp((3, 4, 5), 2), gaussian(3, 4, 6)), r"\(3, 4, 5\)"),
        (lambda: diagnose(gaussian_cp((3, 4, 5), 2).scaled(math.nan)), "finite factors"),
        (lambda: diagnose(gaussian_cp((3, 4, 5), 2), gaussian(3, 4, 5) * math.inf), "NaN or Inf"),
    ],
    ids=["batch", "other shape", "NaN factors", "infinite tensor"],
)
def test_what_cannot_be_examined_is_refused(request_: object, message: str) -> None:
    with pytest.raises(DecompositionError, match=message):
        request_()  # type: ignore[operator]
