"""Tucker-2 with given ranks, under an error bound, and its frontier."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, gaussian
from polyadic.algebra import mode_product
from polyadic.decomposition import Tucker2Options, tucker2, tucker2_bounded, tucker2_rank_frontier

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
ERRORS = st.floats(0.0, 0.95)


def decaying_kernel(D2: int, S: int, T: int, seed: int = 0) -> Tensor:
    """A kernel whose channels lose energy one after another in rotated coordinates, as trained ones do."""
    core = (
        gaussian(D2, S, T, seed=seed) * torch.exp(-0.5 * torch.arange(S))[:, None] * torch.exp(-0.4 * torch.arange(T))
    )
    U, V = (torch.linalg.qr(gaussian(size, size, seed=seed + size)).Q for size in (S, T))
    return torch.einsum("dpq,sp,tq->dst", core, U, V)


@given(SHAPES, st.data())
def test_squared_error_and_energy_of_the_core_add_up(shape: tuple[int, ...], data: st.DataObject) -> None:
    K = gaussian(*shape)
    ranks = data.draw(st.tuples(*(st.integers(1, size) for size in shape[1:])))
    tucker = tucker2(K, ranks).factors
    squared_error = (K - tucker.full()).square().sum()
    torch.testing.assert_close(squared_error + tucker.G.square().sum(), K.square().sum(), rtol=1e-10, atol=1e-10)
    for M, rank in zip((tucker.U, tucker.V), ranks, strict=True):
        torch.testing.assert_close(M.mT @ M, torch.eye(rank, dtype=M.dtype), rtol=0, atol=1e-10)
    best_core = mode_product(mode_product(K, tucker.U.mT, 1), tucker.V.mT, 2)
    torch.testing.assert_close(tucker.G, best_core, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_full_ranks_are_exact(case: str) -> None:
    K = CASES[case]()
    assert tucker2(K, tuple(K.shape[1:])).relative_error < 1e-13


def test_orthogonal_iteration_is_no_worse_than_truncation() -> None:
    K = gaussian(9, 6, 8)
    vectors = [torch.linalg.svd(K.movedim(mode, 0).flatten(1))[0][:, :3] for mode in (1, 2)]
    core = mode_product(mode_product(K, vectors[0].mT, 1), vectors[1].mT, 2)
    truncated = float((1 - core.square().sum() / K.square().sum()).sqrt())
    assert tucker2(K, (3, 3)).relative_error <= truncated + 1e-12


@given(SHAPES, ERRORS)
def test_a_bound_is_kept(shape: tuple[int, ...], error: float) -> None:
    solution = tucker2_bounded(gaussian(*shape), error)
    assert solution.relative_error <= error + 4e-7  # a bound of 0 allows rounding of 1e-13 in the square


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("error", [0.0, 0.1, 0.5])
def test_a_bound_is_kept_on_difficult_tensors(case: str, error: float) -> None:
    solution = tucker2_bounded(CASES[case](), error)
    assert solution.relative_error <= error + 4e-7


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("error", [0.2, 0.4, 0.6])
def test_the_bounded_ranks_cost_what_trying_all_pairs_finds(seed: int, error: float) -> None:
    K = decaying_kernel(9, 6, 8, seed)
    tried = (tucker2(K, pair) for pair in itertools.product(range(1, 7), range(1, 9)))
    cheapest = min(solution.factors.parameters for solution in tried if solution.relative_error <= error)
    assert tucker2_bounded(K, error).factors.parameters <= 1.03 * cheapest


@pytest.mark.parametrize("error", [0.2, 0.4, 0.6])
def test_a_coarse_grid_is_refined_around_its_cheapest_point(error: float) -> None:
    K = decaying_kernel(9, 24, 12, seed=2)
    fine, coarse = (tucker2_bounded(K, error, options=Tucker2Options(grid=grid)) for grid in (64, 5))
    assert coarse.factors.parameters == fine.factors.parameters


def test_the_price_decides_between_pairs() -> None:
    K = decaying_kernel(9, 6, 8)
    few_inputs = tucker2_bounded(K, 0.4, cost=lambda R1, R2: 100 * R1 + R2).factors.ranks
    few_outputs = tucker2_bounded(K, 0.4, cost=lambda R1, R2: R1 + 100 * R2).factors.ranks
    assert few_inputs[0] < few_outputs[0]
    assert few_inputs[1] > few_outputs[1]


@pytest.mark.parametrize(
    ("layer", "error", "most"),
    [
        ("layer3.8.conv1", 0.4, 16552),
        ("layer3.8.conv1", 0.6, 6350),
        ("layer3.0.conv1", 0.4, 11204),
        ("layer2.4.conv1", 0.6, 2800),
    ],
)
def test_trained_kernels_cost_no_more_weights_than_the_table_says(
    resnet56_kernel: Callable[[str], Tensor], layer: str, error: float, most: int
) -> None:
    solution = tucker2_bounded(resnet56_kernel(layer), error)
    assert solution.factors.parameters <= most
    assert solution.relative_error <= error


@given(SHAPES)
def test_the_frontier_climbs_in_price_and_falls_in_error_to_nothing(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    price = lambda R1, R2: R1 * shape[1] + R2 * shape[2] + R1 * R2 * shape[0]  # noqa: E731
    frontier = tucker2_rank_frontier(K, price)
    prices = [price(*pair) for pair in frontier]
    errors = [truncation_error(K, pair) for pair in frontier]
    assert prices == sorted(prices)
    assert all(np.diff(errors) < 0)
    assert errors[-1] < 1e-4


@given(SHAPES)
def test_no_pair_off_the_frontier_is_both_cheaper_and_more_exact(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    frontier = [(p + q, truncation_error(K, (p, q))) for p, q in tucker2_rank_frontier(K, lambda p, q: p + q)]
    for pair in itertools.product(range(1, shape[1] + 1), range(1, shape[2] + 1)):
        error = truncation_error(K, pair)
        assert any(price <= sum(pair) and best <= error + 1e-4 for price, best in frontier)


def test_the_frontier_of_a_zero_kernel_is_its_cheapest_pair() -> None:
    assert tucker2_rank_frontier(torch.zeros(9, 4, 5), lambda R1, R2: R1 * R2) == [(1, 1)]


def truncation_error(K: Tensor, ranks: tuple[int, int]) -> float:
    """Relative error of the truncated HOSVD."""
    projected = K
    for mode, rank in zip((1, 2), ranks, strict=True):
        U = torch.linalg.svd(K.movedim(mode, 0).flatten(1))[0][:, :rank]
        projected = mode_product(projected, U @ U.mT, mode)
    return float((K - projected).norm() / K.norm())
