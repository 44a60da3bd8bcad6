"""The sub-problem of the error-preserving correction, one factor of least weighted norm, against a general solver."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import gaussian, gaussian_cp, unit
from oracles import (
    block_of,
    least_weighted_norm,
    sensitivity_weight,
    squared_residual,
    unfolded,
    weighted_norm,
)
from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import Block
from polyadic.decomposition.bounded_factor import least_sensitive

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
ANY_ORDER = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
modes = pytest.mark.parametrize("mode", [0, 1, 2])


def problem(
    shape: tuple[int, ...], R: int, mode: int, seed: int = 0
) -> tuple[torch.Tensor, CPTensor, Block, torch.Tensor, float]:
    """A unit tensor, factors, the sub-problem of one of them, its weights, and its least squared residual."""
    X, cp = unit(gaussian(*shape, seed=seed)), gaussian_cp(shape, R, seed=seed + 1)
    block = block_of(X, cp, mode)
    best = block.G[0] @ torch.linalg.pinv(block.Gamma[0], hermitian=True)
    return X, cp, block, sensitivity_weight(cp, mode), squared_residual(X, cp, mode, best)


def corrected_factor(block: Block, bound: float) -> torch.Tensor:
    """The closed form for a batch of one."""
    return least_sensitive(block, torch.tensor([bound], dtype=torch.float64))[0]


@given(SHAPES | ANY_ORDER, st.integers(1, 4), st.integers(0, 2))
def test_the_weights_are_what_a_factor_adds_to_the_sensitivity(shape: tuple[int, ...], R: int, mode: int) -> None:
    cp = gaussian_cp(shape, R)
    without = CPTensor(tuple(torch.zeros_like(U) if m == mode else U for m, U in enumerate(cp.factors)))
    added = float(cp.sensitivity() - without.sensitivity())
    weight = block_of(cp.full(), cp, mode).weight[0]
    assert added == pytest.approx(weighted_norm(cp.factors[mode], weight), rel=1e-10)


@modes
@pytest.mark.parametrize(
    ("shape", "R"), [((3, 4, 5), 2), ((2, 3, 4), 3), ((4, 2, 3), 1), ((1, 4, 3), 2), ((2, 3, 2, 3), 2)]
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_closed_form_is_the_minimiser_that_a_general_solver_finds(
    shape: tuple[int, ...], R: int, mode: int, share: float
) -> None:
    X, cp, block, weight, least = problem(shape, R, mode)
    bound = least + share * (1.0 - least)
    A = corrected_factor(block, bound)
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-10)
    assert weighted_norm(A, weight) == pytest.approx(least_weighted_norm(X, cp, mode, bound), rel=1e-5)


@modes
@given(SHAPES, st.integers(1, 6), st.floats(0.001, 0.999), st.integers(0, 1000))
def test_the_closed_form_meets_its_bound_and_no_feasible_neighbour_is_less_sensitive(
    mode: int, shape: tuple[int, ...], R: int, share: float, seed: int
) -> None:
    X, cp, block, weight, least = problem(shape, R, mode, seed)
    bound = least + share * (1.0 - least)
    A = corrected_factor(block, bound)
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-9)
    for step in (1e-1, 1e-3):
        moved = A + step * gaussian(*A.shape, seed=seed)
        if squared_residual(X, cp, mode, moved) <= bound:
            assert weighted_norm(moved, weight) >= weighted_norm(A, weight) * (1 - 1e-9)


@modes
def test_a_bound_out_of_reach_gives_least_squares(mode: int) -> None:
    X, cp, block, _, least = problem((3, 4, 5), 2, mode)
    A = corrected_factor(block, 0.5 * least)
    assert squared_residual(X, cp, mode, A) == pytest.approx(least, abs=1e-12)


@modes
@pytest.mark.parametrize("bound", [1.0, 1.5, 100.0])
def test_a_bound_that_zero_meets_gives_zero(mode: int, bound: float) -> None:
    _, _, block, _, _ = problem((3, 4, 5), 2, mode)
    assert not corrected_factor(block, bound).any()


@modes
def test_a_singular_gram_is_served_with_the_minimum_norm(mode: int) -> None:
    """Two equal terms: the one direction that Z does not see stays empty."""
    X = unit(gaussian(3, 4, 5))
    cp = CPTensor(tuple(U[:, [0, 0, 1]] for U in gaussian_cp((3, 4, 5), 2).factors))
    block, weight = block_of(X, cp, mode), sensitivity_weight(cp, mode)
    bound = squared_residual(X, cp, mode, block.G[0] @ torch.linalg.pinv(block.Gamma[0])) + 0.05
    A = corrected_factor(block, bound)
    torch.testing.assert_close(A[:, 0], A[:, 1])
    assert squared_residual(X, cp, mode, A) == pytest.approx(bound, abs=1e-10)
    assert weighted_norm(A, weight) == pytest.approx(least_weighted_norm(X, cp, mode, bound), rel=1e-5)


def test_a_factor_with_more_columns_than_equations_is_served() -> None:
    X, cp, block, _, least = problem((2, 2, 2), 7, 0)
    assert least < 1e-12
    assert squared_residual(X, cp, 0, corrected_factor(block, 0.25)) == pytest.approx(0.25, abs=1e-10)
    assert unfolded(X, 0).shape == (2, 4)


def test_every_member_of_a_batch_has_a_bound_of_its_own() -> None:
    """One out of reach, one that zero meets, one between: as each alone."""
    problems = [problem((3, 4, 5), 2, 1, seed) for seed in range(3)]
    blocks = [each[2] for each in problems]
    together = Block(
        1,
        *(torch.cat([getattr(block, name) for block in blocks]) for name in ("factor", "G", "Gamma")),
        tuple(torch.cat(grams) for grams in zip(*(block.grams for block in blocks), strict=True)),
        blocks[0].sizes,
    )
    least = problems[2][4]
    bounds = [0.5 * problems[0][4], 1.5, least + 0.3 * (1.0 - least)]
    found = least_sensitive(together, torch.tensor(bounds, dtype=torch.float64))
    for number, (block, bound) in enumerate(zip(blocks, bounds, strict=True)):
        torch.testing.assert_close(found[number], corrected_factor(block, bound), rtol=1e-9, atol=1e-9)
    assert not found[1].any()
