"""TKD-CPD: the two errors add, and the parts are what they say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES, gaussian
from polyadic.decomposition import EPCOptions, RidgeOptions, StableOptions, StopReason, stable_cp, tkd_cpd, tucker2

SHORT = StableOptions(ridge=RidgeOptions(max_sweeps=10), epc=EPCOptions(max_sweeps=10))
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@given(SHAPES, st.integers(1, 5), st.data())
def test_squared_errors_of_tucker_and_core_add(shape: tuple[int, ...], R: int, data: st.DataObject) -> None:
    K = gaussian(*shape)
    ranks = data.draw(st.tuples(*(st.integers(1, size) for size in shape[1:])))
    outer = tucker2(K, ranks)
    solution = tkd_cpd(K, R, ranks=ranks, options=SHORT)
    G = outer.factors.G
    core_error = (G - solution.factors.core.full()).square().sum()
    whole = outer.relative_error**2 + float(core_error / K.square().sum())
    assert solution.relative_error**2 == pytest.approx(whole, abs=1e-10)


def test_the_core_is_a_stable_cp_of_the_tucker_core() -> None:
    K = gaussian(9, 6, 7)
    solution = tkd_cpd(K, 4, ranks=(3, 5), options=SHORT, seed=2)
    core = stable_cp(tucker2(K, (3, 5)).factors.G, 4, SHORT, seed=2)
    for ours, expected in zip(solution.factors.core.factors, core.factors.factors, strict=True):
        assert torch.equal(ours, expected)
    assert solution.factors.ranks == (3, 5, 4)


def test_full_is_that_of_the_merged_factors_and_of_the_parts() -> None:
    factors = tkd_cpd(gaussian(9, 6, 7), 4, ranks=(3, 5), options=SHORT).factors
    parts = torch.einsum("dpq,sp,tq->dst", factors.core.full(), factors.U, factors.V)
    torch.testing.assert_close(factors.full(), parts, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(factors.merged().full(), parts, rtol=1e-10, atol=1e-10)
    assert factors.parameters == 6 * 3 + 7 * 5 + 4 * (9 + 3 + 5)


@pytest.mark.parametrize("error", [0.0, 0.2, 0.5])
def test_a_bound_on_the_tucker_part_holds_where_the_core_is_exact(error: float) -> None:
    solution = tkd_cpd(gaussian(9, 4, 5), 20, tucker_error=error)
    assert solution.relative_error <= error + 4e-7
    assert solution.stop is StopReason.CLOSED_FORM


@pytest.mark.parametrize("case", CASES)
def test_full_ranks_are_exact(case: str) -> None:
    K = CASES[case]()
    assert tkd_cpd(K, K.shape[1] * K.shape[2] * 4, ranks=tuple(K.shape[1:])).relative_error < 1e-13
