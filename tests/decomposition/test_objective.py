"""The three objectives: value, weights and best column norms against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from cases import batch_of, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition import Objective

SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
every_objective = pytest.mark.parametrize("objective", Objective)


def literal(objective: Objective, cp: CPTensor) -> float:
    """The objective term by term."""
    norms = np.array([[float(U[:, r] @ U[:, r]) for U in cp.factors] for r in range(cp.rank)])
    if objective is Objective.INTENSITY:
        return float(norms.prod(1).sum())
    if objective is Objective.SENSITIVITY:
        return oracles.sensitivity(cp)
    N = len(cp.factors)
    return float(sum(row.prod() for r in norms for row in (np.delete(r, n) for n in range(N))))


@every_objective
@given(SHAPES, st.integers(1, 4), st.integers(0, 100))
def test_the_value_is_that_of_its_terms(objective: Objective, shape: tuple[int, ...], R: int, seed: int) -> None:
    members = [gaussian_cp(shape, R, seed + k) for k in (0, 1)]
    values = objective.of(batch_of(*members))
    assert values.tolist() == pytest.approx([literal(objective, cp) for cp in members], rel=1e-12)


@every_objective
@given(SHAPES, st.integers(1, 4), st.integers(0, 100))
def test_the_weights_and_the_rest_make_the_value_for_every_factor(
    objective: Objective, shape: tuple[int, ...], R: int, seed: int
) -> None:
    cp = gaussian_cp(shape, R, seed)
    for mode, U in enumerate(cp.factors):
        block = oracles.block_of(cp.full(), cp, mode)
        moved = (objective.weight(block)[0] * U.square().sum(0)).sum()
        assert float(moved + objective.untouched(block)) == pytest.approx(literal(objective, cp), rel=1e-10)
        without = CPTensor(tuple(torch.zeros_like(V) if m == mode else V for m, V in enumerate(cp.factors)))
        assert float(objective.untouched(block)) == pytest.approx(literal(objective, without), rel=1e-10)


@every_objective
@given(SHAPES, st.integers(1, 4), st.integers(0, 100))
def test_balanced_columns_have_the_least_value_of_all_scalings(
    objective: Objective, shape: tuple[int, ...], R: int, seed: int
) -> None:
    cp = gaussian_cp(shape, R, seed)
    balanced = objective.balanced(cp)
    torch.testing.assert_close(balanced.full(), cp.full(), rtol=1e-10, atol=1e-10)
    least = literal(objective, balanced)
    assert least <= literal(objective, cp) * (1 + 1e-12)
    for m, n in itertools.permutations(range(len(shape)), 2):
        s = 1.0 + 0.1 * gaussian(R, seed=m + 10 * n).tanh()
        factors = list(balanced.factors)
        factors[m], factors[n] = factors[m] * s, factors[n] / s
        assert literal(objective, CPTensor(tuple(factors))) >= least * (1 - 1e-12)
