"""The refined frontier of Tucker-2: errors that exist, nothing dominated, close to the bounded search."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, gaussian
from polyadic.decomposition import (
    Tucker2Options,
    tucker2,
    tucker2_bounded,
    tucker2_frontier,
    tucker2_macs,
    tucker2_rank_frontier,
    tucker2_weights,
)
from polyadic.errors import DecompositionError

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
SURE = Tucker2Options(max_sweeps=500, tolerance=1e-12)


def decaying_kernel(D2: int, S: int, T: int, seed: int = 0) -> Tensor:
    """Channels that lose energy one after another, in rotated coordinates."""
    core = (
        gaussian(D2, S, T, seed=seed) * torch.exp(-0.1 * torch.arange(S))[:, None] * torch.exp(-0.08 * torch.arange(T))
    )
    U, V = (torch.linalg.qr(gaussian(size, size, seed=seed + size)).Q for size in (S, T))
    return torch.einsum("dpq,sp,tq->dst", core, U, V)


def truncation_error(K: Tensor, ranks: tuple[int, int]) -> float:
    """Relative error of the truncated HOSVD, by projections."""
    projected = K
    for mode, rank in zip((1, 2), ranks, strict=True):
        U = torch.linalg.svd(K.movedim(mode, 0).flatten(1))[0][:, :rank]
        projected = torch.movedim(torch.tensordot(U @ U.mT, projected, dims=([1], [mode])), 0, mode)
    return float((K - projected).norm() / K.norm())


@given(SHAPES, st.integers(1, 4))
def test_costs_rise_and_errors_fall_from_point_to_point_down_to_nothing(shape: tuple[int, ...], multiple: int) -> None:
    points = tucker2_frontier(gaussian(*shape), multiple=multiple)
    for first, second in itertools.pairwise(points):
        assert first.cost <= second.cost
        assert first.relative_error > second.relative_error
    assert points[-1].relative_error < 1e-6
    price = tucker2_weights(shape)
    assert all(point.cost == price(*point.ranks) for point in points)


@pytest.mark.parametrize("seed", range(3))
def test_hooi_at_every_point_reaches_the_error_that_the_frontier_states(seed: int) -> None:
    K = decaying_kernel(9, 12, 16, seed)
    for point in tucker2_frontier(K):
        assert tucker2(K, point.ranks, SURE).relative_error <= point.relative_error + 2e-3
        assert point.relative_error <= truncation_error(K, point.ranks) + 1e-7


def test_some_errors_lie_below_those_of_the_truncation() -> None:
    K = decaying_kernel(9, 12, 16)
    gains = [truncation_error(K, point.ranks) - point.relative_error for point in tucker2_frontier(K)]
    assert max(gains) > 0.005


@pytest.mark.parametrize("error", [0.2, 0.35, 0.5, 0.65])
def test_frontier_bounded_and_sequential_rule_stand_in_this_order_of_cost(error: float) -> None:
    K = decaying_kernel(9, 24, 20, seed=1)
    price = tucker2_weights(tuple(K.shape))
    frontier = min(
        p.cost for p in tucker2_frontier(K, options=Tucker2Options(frontier_points=200)) if p.relative_error <= error
    )
    bounded = tucker2_bounded(K, error)
    assert bounded.relative_error <= error
    assert frontier <= 1.01 * bounded.factors.parameters
    for first in (1, 2):
        assert bounded.factors.parameters <= price(*sequential_rule(K, error, first))


def sequential_rule(K: Tensor, error: float, first: int) -> tuple[int, int]:
    """The smallest rank of one mode within the bound, then of the other, and so on, by SVDs of projections."""
    bases = {1: torch.eye(K.shape[1], dtype=K.dtype), 2: torch.eye(K.shape[2], dtype=K.dtype)}
    for mode in (first, 3 - first) * 3:
        other = 3 - mode
        projected = torch.movedim(torch.tensordot(bases[other].mT, K, dims=([1], [other])), 0, other)
        U, sigma, _ = torch.linalg.svd(projected.movedim(mode, 0).flatten(1), full_matrices=False)
        needed = (1 - error**2) * K.square().sum()
        rank = next(r for r in range(1, len(sigma) + 1) if sigma[:r].square().sum() >= needed * (1 - 1e-12))
        bases[mode] = U[:, :rank]
    return int(bases[1].shape[1]), int(bases[2].shape[1])


@given(SHAPES)
def test_no_pair_at_all_is_cheaper_and_more_exact_by_truncation(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    points = tucker2_frontier(K, cost=lambda p, q: p + q)
    for pair in itertools.product(range(1, shape[1] + 1), range(1, shape[2] + 1)):
        error = truncation_error(K, pair)
        assert any(point.cost <= sum(pair) and point.relative_error <= error + 1e-4 for point in points)


@pytest.mark.parametrize("multiple", [4, 8, 100])
def test_ranks_are_multiples_or_full(multiple: int) -> None:
    K = decaying_kernel(9, 18, 16)
    pairs = [point.ranks for point in tucker2_frontier(K, multiple=multiple)]
    pairs.append(tucker2_bounded(K, 0.3, multiple=multiple).factors.ranks)
    assert all(R1 % multiple == 0 or R1 == 18 for R1, _ in pairs)
    assert all(R2 % multiple == 0 or R2 == 16 for _, R2 in pairs)


@given(st.integers(0, 5), st.floats(0.05, 0.9))
def test_rounded_ranks_keep_the_bound_and_cost_no_less(seed: int, error: float) -> None:
    K = decaying_kernel(9, 12, 16, seed)
    free, rounded = tucker2_bounded(K, error), tucker2_bounded(K, error, multiple=4)
    assert rounded.relative_error <= error + 1e-12
    assert rounded.factors.parameters >= 0.99 * free.factors.parameters


def test_rounding_by_cost_beats_rounding_the_free_ranks_up() -> None:
    K = decaying_kernel(9, 24, 24, seed=3)
    price = tucker2_weights(tuple(K.shape))
    for error in (0.2, 0.3, 0.4, 0.5):
        up = [min(24, 8 * math.ceil(r / 8)) for r in tucker2_bounded(K, error).factors.ranks]
        assert tucker2_bounded(K, error, multiple=8).factors.parameters <= price(up[0], up[1])


def test_macs_of_a_strided_layer_spare_the_first_stage() -> None:
    K = decaying_kernel(9, 12, 12)
    assert tucker2_macs((9, 4, 5), inputs=64, outputs=16)(2, 3) == 64 * 2 * 4 + 16 * (9 * 2 * 3 + 3 * 5)
    strided = tucker2_bounded(K, 0.4, cost=tucker2_macs(tuple(K.shape), inputs=100, outputs=1)).factors.ranks
    plain = tucker2_bounded(K, 0.4, cost=tucker2_macs(tuple(K.shape), inputs=1, outputs=1)).factors.ranks
    assert strided[0] < plain[0]


@pytest.mark.parametrize("case", CASES)
def test_every_difficult_tensor_has_a_frontier(case: str) -> None:
    K = CASES[case]()
    points = tucker2_frontier(K)
    assert all(math.isfinite(point.relative_error) for point in points)
    assert points[-1].relative_error <= 1e-6
    assert 0 < len(points) <= len(tucker2_rank_frontier(K, lambda p, q: p * q)) * K.shape[1] * K.shape[2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_types_give_the_frontier_of_their_values(dtype: torch.dtype) -> None:
    K = gaussian(4, 5, 6).to(dtype)
    assert tucker2_frontier(K) == tucker2_frontier(K.double())


def test_the_frontier_of_a_zero_kernel_is_its_cheapest_pair() -> None:
    (point,) = tucker2_frontier(torch.zeros(9, 4, 5))
    assert (point.ranks, point.relative_error) == ((1, 1), 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda K: tucker2_frontier(K * math.nan), "NaN"),
        (lambda K: tucker2_frontier(K, multiple=0), "whole number >= 1; got 0"),
        (lambda K: tucker2_bounded(K, 0.1, multiple=-8), "got -8"),
        (lambda K: tucker2_frontier(K, options=Tucker2Options(frontier_points=0)), "frontier_points = 0"),
        (lambda K: tucker2_frontier(K[0]), "order 3"),
    ],
    ids=["NaN", "multiple 0", "multiple below 0", "no point", "order 2"],
)
def test_wrong_requests_are_refused_with_a_sentence(wrong: object, message: str) -> None:
    with pytest.raises(DecompositionError, match=message):
        wrong(gaussian(3, 4, 5))  # type: ignore[operator]
