"""The CP format: its tensor, its norms and its sensitivity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorly
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from cases import batch_of, gaussian, gaussian_cp
from polyadic.algebra import CPTensor

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
RANKS = st.integers(1, 5)
SEEDS = st.integers(0, 1000)


def randomly_rescaled(cp: CPTensor, seed: int) -> CPTensor:
    """The same tensor, norms moved at random between the modes of every term."""
    scales = [gaussian(cp.rank, seed=seed + mode).exp() for mode in range(len(cp.factors) - 1)]
    scales.append(1.0 / torch.stack(scales).prod(0))
    return CPTensor(tuple(U * s for U, s in zip(cp.factors, scales, strict=True)))


@given(SHAPES, RANKS, SEEDS)
def test_full_is_the_sum_of_outer_products(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    torch.testing.assert_close(cp.full(), oracles.cp_full(cp), **CLOSE)
    np.testing.assert_allclose(cp.full(), tensorly.cp_to_tensor((None, [U.numpy() for U in cp.factors])), atol=1e-10)


@given(SHAPES, RANKS, SEEDS)
def test_permuting_components_leaves_the_tensor_and_the_figures_alone(
    shape: tuple[int, ...], R: int, seed: int
) -> None:
    cp = gaussian_cp(shape, R, seed)
    order = torch.randperm(R, generator=torch.Generator().manual_seed(seed))
    shuffled = CPTensor(tuple(U[:, order] for U in cp.factors))
    torch.testing.assert_close(shuffled.full(), cp.full(), **CLOSE)
    torch.testing.assert_close(shuffled.intensities(), cp.intensities()[order], **CLOSE)
    assert float(shuffled.sensitivity()) == pytest.approx(float(cp.sensitivity()), rel=1e-12)


@given(SHAPES, RANKS, SEEDS)
def test_rescaling_components_leaves_the_tensor_and_the_intensities_alone(
    shape: tuple[int, ...], R: int, seed: int
) -> None:
    cp = gaussian_cp(shape, R, seed)
    for other in (randomly_rescaled(cp, seed), cp.rescaled()):
        torch.testing.assert_close(other.full(), cp.full(), **CLOSE)
        torch.testing.assert_close(other.intensities(), cp.intensities(), **CLOSE)


@given(SHAPES, RANKS, SEEDS)
def test_norms_come_from_the_grams(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    assert float(cp.squared_norm()) == pytest.approx(float(cp.full().square().sum()), rel=1e-10, abs=1e-10)
    terms = [CPTensor(tuple(U[:, [r]] for U in cp.factors)).full().norm() for r in range(R)]
    torch.testing.assert_close(cp.intensities(), torch.stack(terms), **CLOSE)
    assert float(cp.sum_squared_intensity()) == pytest.approx(float(torch.stack(terms).square().sum()), rel=1e-10)


@given(SHAPES, RANKS, SEEDS)
def test_scaled_multiplies_the_tensor_and_padded_keeps_it(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    torch.testing.assert_close(cp.scaled(2.5).full(), 2.5 * cp.full(), **CLOSE)
    torch.testing.assert_close(cp.scaled(torch.tensor(2.5, dtype=torch.float64)).full(), 2.5 * cp.full(), **CLOSE)
    torch.testing.assert_close(cp.padded(R + 3).full(), cp.full(), **CLOSE)
    assert cp.padded(R + 3).rank == R + 3
    assert cp.padded(R) is cp


@pytest.mark.parametrize(
    ("shape", "R"), [((3, 4, 5), 2), ((9, 2, 3), 4), ((1, 3, 2), 3), ((2, 3, 4, 5), 3), ((3, 1, 4, 2), 2)]
)
def test_sensitivity_is_the_growth_under_random_perturbations(shape: tuple[int, ...], R: int) -> None:
    cp = gaussian_cp(shape, R)
    # 4,000 draws of a sum of many squares: about 1 % of statistical error
    assert float(cp.sensitivity()) == pytest.approx(oracles.simulated_sensitivity(cp, draws=4000), rel=0.05)


@given(SHAPES, RANKS, SEEDS)
def test_sensitivity_is_the_sum_of_its_terms(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    assert float(cp.sensitivity()) == pytest.approx(oracles.sensitivity(cp), rel=1e-12)


@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), RANKS, SEEDS)
def test_the_lemma_is_the_trace_of_gram_products(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    A, B, C = (U.mT @ U for U in cp.factors)
    assert float(cp.sensitivity_lemma()) == pytest.approx(float(torch.trace(A * B + B * C + A * C)), rel=1e-12)


@given(SHAPES, RANKS, SEEDS)
def test_rescaled_reaches_the_least_sensitivity_in_closed_form(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp, N = gaussian_cp(shape, R, seed), len(shape)
    least = N * math.prod(shape) ** (1 / N) * float((cp.intensities() ** (2 * (N - 1) / N)).sum())
    assert float(cp.rescaled().sensitivity()) == pytest.approx(least, rel=1e-10)
    for other in range(5):
        assert float(randomly_rescaled(cp, seed + other).sensitivity()) >= least * (1 - 1e-12)


@given(SHAPES, RANKS, SEEDS)
def test_equal_column_norms_reach_the_least_lemma_in_closed_form(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp, N = gaussian_cp(shape, R, seed), len(shape)
    least = N * float((cp.intensities() ** (2 * (N - 1) / N)).sum())
    equal = cp.rescaled(equal=True)
    assert float(equal.sensitivity_lemma()) == pytest.approx(least, rel=1e-10)
    torch.testing.assert_close(equal.full(), cp.full(), **CLOSE)
    for other in range(5):
        assert float(randomly_rescaled(cp, seed + other).sensitivity_lemma()) >= least * (1 - 1e-12)


@given(SHAPES, RANKS, st.integers(1, 4), SEEDS)
def test_a_batch_is_its_members_one_by_one(shape: tuple[int, ...], R: int, members: int, seed: int) -> None:
    singles = [gaussian_cp(shape, R, seed + 7 * member) for member in range(members)]
    batch, factors = batch_of(*singles), gaussian(members, seed=seed).exp()
    assert (batch.shape, batch.rank, batch.parameters) == (shape, R, singles[0].parameters)
    for figure in (
        CPTensor.full,
        CPTensor.squared_norm,
        CPTensor.intensities,
        CPTensor.sum_squared_intensity,
        CPTensor.sensitivity,
        CPTensor.sensitivity_lemma,
    ):
        torch.testing.assert_close(figure(batch), torch.stack([figure(cp) for cp in singles]), **CLOSE)
    for equal in (False, True):
        rescaled = batch.rescaled(equal=equal)
        for number, cp in enumerate(singles):
            for U, V in zip(rescaled[number].factors, cp.rescaled(equal=equal).factors, strict=True):
                torch.testing.assert_close(U, V, **CLOSE)
    scaled = batch.scaled(factors).full()
    torch.testing.assert_close(scaled, torch.stack([f * cp.full() for f, cp in zip(factors, singles, strict=True)]))


@given(SHAPES, RANKS, SEEDS)
def test_permuting_the_modes_permutes_the_tensor(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp = gaussian_cp(shape, R, seed)
    order = torch.randperm(len(shape), generator=torch.Generator().manual_seed(seed)).tolist()
    torch.testing.assert_close(cp.permuted(order).full(), cp.full().permute(order), **CLOSE)


@given(SHAPES, RANKS, SEEDS)
def test_times_input_multiplies_the_second_mode(shape: tuple[int, ...], R: int, seed: int) -> None:
    cp, M = gaussian_cp(shape, R, seed), gaussian(shape[1], shape[1], seed=seed)
    torch.testing.assert_close(
        cp.times_input(M).full(), torch.einsum("is...,ts->it...", cp.full(), M), rtol=1e-9, atol=1e-9
    )


@given(SHAPES, RANKS, SEEDS)
def test_rescaled_columns_have_norms_in_proportion_to_the_sizes(shape: tuple[int, ...], R: int, seed: int) -> None:
    norms = gaussian_cp(shape, R, seed).rescaled().squared_column_norms()
    per_row = norms / torch.tensor(shape, dtype=torch.float64)[:, None]
    torch.testing.assert_close(per_row, per_row[:1].expand_as(per_row), **CLOSE)


def test_a_term_with_a_zero_column_becomes_a_zero_term_and_not_nan() -> None:
    A, B, C = gaussian_cp((3, 4, 5), 2).factors
    A[:, 0] = 0.0
    rescaled = CPTensor((A, B, C)).rescaled()
    assert all(bool((U[:, 0] == 0).all()) for U in rescaled.factors)
    torch.testing.assert_close(rescaled.full(), CPTensor((A, B, C)).full(), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_short_types_keep_their_tensor_type_and_intensities(dtype: torch.dtype, scale: float) -> None:
    """Products of squared norms leave the range of float16 long before the tensor does."""
    cp = CPTensor(tuple((scale * U).to(dtype) for U in gaussian_cp((3, 4, 5), 2).factors))
    exact = CPTensor(tuple(U.double() for U in cp.factors))
    rescaled = cp.rescaled()
    assert all(U.dtype == dtype for U in rescaled.factors)
    torch.testing.assert_close(cp.intensities().double(), exact.intensities())
    # float16 below 6e-5 has fewer digits, hence an absolute tolerance in units of the factors
    step = torch.finfo(dtype).eps
    error = CPTensor(tuple(U.double() for U in rescaled.factors)).full() - exact.full()
    assert float(error.norm() / exact.full().norm()) < 10 * step


@pytest.mark.parametrize("scale", [1e-13, 1e13])
def test_intensities_far_from_one_survive_in_float32(scale: float) -> None:
    cp = CPTensor(tuple((scale * U).float() for U in gaussian_cp((3, 4, 5), 2).factors))
    assert bool((cp.intensities() > 0).all())
    assert bool(torch.isfinite(cp.intensities()).all())
    assert all(bool(torch.isfinite(U).all()) and float(U.abs().max()) > 0 for U in cp.rescaled().factors)


def test_parameters_count_every_entry_of_the_factors() -> None:
    cp = gaussian_cp((9, 4, 5), 7)
    assert cp.parameters == sum(U.numel() for U in cp.factors) == 7 * (9 + 4 + 5)
    assert (cp.rank, cp.shape) == (7, (9, 4, 5))
