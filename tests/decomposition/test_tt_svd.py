"""TT-SVD at given ranks and within an error bound."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import tensorly
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorly.decomposition import tensor_train as tensorly_train
from torch import Tensor

from cases import CASES, gaussian
from polyadic.algebra import largest_tt_ranks
from polyadic.decomposition import StopReason, tt_svd, tt_svd_bounded
from polyadic.decomposition.tt_rounding import cheapest_ranks, tail_energies
from polyadic.errors import DecompositionError

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)
ERRORS = st.floats(0.0, 0.95)


def unfolding_tails(X: Tensor) -> list[Tensor]:
    """``sum_{i > r} s_i^2`` for r = 0, 1, ... of the unfolding at every cut."""
    unfoldings = [X.reshape(math.prod(X.shape[:k]), -1) for k in range(1, X.ndim)]
    return [
        torch.stack([s[r:].square().sum() for r in range(len(s) + 1)]) for s in map(torch.linalg.svdvals, unfoldings)
    ]


def decaying(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Gaussian entries whose modes lose energy one after another in rotated coordinates."""
    X = gaussian(*shape, seed=seed)
    for mode, size in enumerate(shape):
        Q = torch.linalg.qr(gaussian(size, size, seed=seed + mode)).Q * torch.exp(-0.5 * torch.arange(size))
        X = torch.movedim(torch.tensordot(Q, X, dims=([1], [mode])), 0, mode)
    return X


def equal_shares(X: Tensor, error: float) -> int:
    """Parameters by the rule of Oseledets: at most ``error ||X|| / sqrt(d - 1)`` lost at every cut."""
    share = (error * float(X.norm())) ** 2 / (X.ndim - 1)
    C, r, parameters = X, 1, 0
    for size in X.shape[:-1]:
        _, s, Vh = torch.linalg.svd(C.reshape(r * size, -1), full_matrices=False)
        rank = next(r for r in range(1, len(s) + 1) if r == len(s) or float(s[r:].square().sum()) <= share)
        C, parameters, r = s[:rank, None] * Vh[:rank], parameters + r * size * rank, rank
    return parameters + r * X.shape[-1]


@st.composite
def tensors_and_ranks(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...]]:
    shape = draw(SHAPES)
    most = draw(st.integers(1, 12))
    return gaussian(*shape, seed=draw(st.integers(0, 100))), largest_tt_ranks(shape, most)


@given(SHAPES)
def test_full_ranks_are_exact(shape: tuple[int, ...]) -> None:
    solution = tt_svd(gaussian(*shape), largest_tt_ranks(shape))
    assert solution.relative_error < 1e-13
    assert solution.stop is StopReason.CLOSED_FORM


@pytest.mark.parametrize("case", CASES)
def test_full_ranks_are_exact_on_difficult_tensors(case: str) -> None:
    K = CASES[case]()
    assert tt_svd(K, largest_tt_ranks(tuple(K.shape))).relative_error < 1e-13


@given(tensors_and_ranks())
def test_the_error_is_within_the_tails_of_all_cuts_and_at_least_the_largest(
    drawn: tuple[Tensor, tuple[int, ...]],
) -> None:
    """Oseledets 2011, theorem 2.2; no train of these ranks can be closer than the largest tail."""
    X, ranks = drawn
    tails = [float(tail[r]) for tail, r in zip(unfolding_tails(X), ranks, strict=True)]
    squared_error = (tt_svd(X, ranks).relative_error * float(X.norm())) ** 2
    assert max(tails) - 1e-10 <= squared_error <= sum(tails) + 1e-10


@given(SHAPES, st.integers(1, 3), st.integers(0, 50))
def test_the_error_is_within_the_root_of_d_minus_1_of_a_train_that_is_near(
    shape: tuple[int, ...], most: int, seed: int
) -> None:
    """Corollary 2.4: the best error is no larger than the distance to the planted train."""
    ranks = largest_tt_ranks(shape, most)
    planted = tt_svd(gaussian(*shape, seed=seed), ranks).factors.full()
    noise = 0.1 * gaussian(*shape, seed=seed + 1)
    error = tt_svd(planted + noise, ranks).relative_error * float((planted + noise).norm())
    assert error <= math.sqrt(len(shape) - 1) * float(noise.norm()) + 1e-10


@given(tensors_and_ranks())
def test_the_error_is_that_of_tensorly_at_the_same_ranks(drawn: tuple[Tensor, tuple[int, ...]]) -> None:
    X, ranks = drawn
    other = tensorly.tt_to_tensor(tensorly_train(X.numpy(), [1, *ranks, 1]))
    expected = float((X - torch.from_numpy(other)).norm() / X.norm())
    assert tt_svd(X, ranks).relative_error == pytest.approx(expected, abs=1e-10)


@given(tensors_and_ranks())
def test_the_given_ranks_come_back_and_the_cores_are_left_orthogonal(drawn: tuple[Tensor, tuple[int, ...]]) -> None:
    X, ranks = drawn
    train = tt_svd(X, ranks).factors
    assert train.ranks == ranks
    assert train.shape == tuple(X.shape)
    for G in train.cores[:-1]:  # up to a factor: all cores have one norm
        Q = G.flatten(0, 1)
        scale = float(Q.square().sum()) / Q.shape[1]
        torch.testing.assert_close(Q.mT @ Q, scale * torch.eye(Q.shape[1], dtype=Q.dtype), rtol=1e-9, atol=1e-9)


@given(SHAPES, ERRORS, st.integers(0, 50))
def test_a_bound_is_kept_for_no_more_parameters_than_equal_shares_take(
    shape: tuple[int, ...], error: float, seed: int
) -> None:
    for X in (gaussian(*shape, seed=seed), decaying(shape, seed)):
        solution = tt_svd_bounded(X, error)
        assert solution.relative_error <= error * (1 + 1e-12) + 1e-12
        assert solution.factors.parameters <= equal_shares(X, max(error, 1e-12))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("error", [0.0, 1e-9, 0.1, 0.5])
def test_a_bound_is_kept_on_difficult_tensors(case: str, error: float) -> None:
    solution = tt_svd_bounded(CASES[case](), error)
    assert solution.relative_error <= error + 1e-12


def test_a_bound_of_nothing_finds_the_exact_ranks() -> None:
    X = tt_svd(gaussian(4, 5, 6, 3), (2, 3, 2)).factors.full()
    solution = tt_svd_bounded(X, 0.0)
    assert solution.factors.ranks == (2, 3, 2)
    assert solution.relative_error < 1e-12


@pytest.mark.parametrize("error", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_bounded_ranks_cost_what_trying_all_ranks_finds(error: float, seed: int) -> None:
    X = decaying((5, 6, 7), seed)
    cheapest = X.numel()
    for ranks in itertools.product(range(1, 6), range(1, 8)):
        if ranks[1] <= ranks[0] * 6 and tt_svd(X, ranks).relative_error <= error:
            cheapest = min(cheapest, 5 * ranks[0] + 6 * ranks[0] * ranks[1] + 7 * ranks[1])
    assert tt_svd_bounded(X, error).factors.parameters <= 1.02 * cheapest


def test_the_price_decides_between_ranks() -> None:
    X = gaussian(6, 6, 6)
    dear_first = tt_svd_bounded(X, 0.3, weights=(1000.0, 1.0, 1.0)).factors.ranks
    dear_last = tt_svd_bounded(X, 0.3, weights=(1.0, 1.0, 1000.0)).factors.ranks
    assert dear_first[0] < dear_last[0]
    assert dear_first[1] > dear_last[1]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=3), ERRORS, st.integers(0, 50))
def test_planned_ranks_keep_the_budget_and_no_pair_is_cheaper(sizes: list[int], error: float, seed: int) -> None:
    tails = [tail_energies(torch.linalg.svdvals(gaussian(n, n, seed=seed + k))) for k, n in enumerate(sizes)]
    weights = [float(w) for w in range(1, len(sizes) + 2)]
    allowed = error**2 * float(tails[0][0])
    ranks = cheapest_ranks(tails, allowed, weights)

    def price(r: tuple[int, ...]) -> float:
        bonds = (1, *r, 1)
        return sum(w * bonds[k] * bonds[k + 1] for k, w in enumerate(weights))

    def lost(r: tuple[int, ...]) -> float:
        return sum(float(tail[rank]) for tail, rank in zip(tails, r, strict=True))

    assert lost(ranks) <= allowed * (1 + 1e-12) + 1e-12
    for i, j in itertools.combinations(range(len(sizes)), 2):
        for pair in itertools.product(range(1, sizes[i] + 1), range(1, sizes[j] + 1)):
            other = list(ranks)
            other[i], other[j] = pair
            assert lost(tuple(other)) > allowed * (1 - 1e-12) or price(tuple(other)) >= price(ranks)


@pytest.mark.parametrize(
    ("layer", "error", "most"),
    [("layer3.8.conv1", 0.4, 12630), ("layer3.8.conv1", 0.6, 6646), ("layer3.0.conv1", 0.4, 9270)],
)
def test_trained_kernels_take_a_fifth_less_than_equal_shares(
    resnet56_kernel: Callable[[str], Tensor], layer: str, error: float, most: int
) -> None:
    K = resnet56_kernel(layer)  # D^2 x S x T, S and T in 3 digits each
    D2, S, T = K.shape
    digits = {32: (4, 2, 4), 64: (4, 4, 4)}
    t, s = digits[T], digits[S]
    X = K.permute(0, 2, 1).reshape(D2, *t, *s).permute(0, 1, 4, 2, 5, 3, 6)
    X = X.reshape(D2, *(a * b for a, b in zip(t, s, strict=True)))
    solution = tt_svd_bounded(X, error)
    assert solution.relative_error <= error
    assert solution.factors.parameters <= most <= 0.81 * equal_shares(X.double(), error)


def test_shares_that_pass_on_what_is_unused_win_where_the_plan_is_dearer() -> None:
    X = decaying((3, 2, 5, 2, 6), seed=264)
    assert tt_svd_bounded(X, 0.12884209254256257).factors.parameters <= 335  # 371 by the plan alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cores_come_back_in_the_type_of_the_tensor(dtype: torch.dtype) -> None:
    X = gaussian(4, 5, 6).to(dtype)
    for solution in (tt_svd(X, (3, 4)), tt_svd_bounded(X, 0.5)):
        assert {G.dtype for G in solution.factors.cores} == {dtype}
        double = solution.factors.to(torch.empty(0, dtype=torch.float64)).full()
        assert solution.relative_error == pytest.approx(float((X.double() - double).norm() / X.double().norm()))
    assert tt_svd(X, (4, 6)).relative_error < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100, -1.0])
def test_the_scale_of_the_tensor_changes_nothing_but_the_scale(factor: float) -> None:
    X = gaussian(4, 5, 6)
    plain, scaled = tt_svd(X, (3, 4)), tt_svd(factor * X, (3, 4))
    torch.testing.assert_close(scaled.factors.full() / factor, plain.factors.full(), rtol=1e-9, atol=1e-9)
    assert tt_svd_bounded(factor * X, 0.4).factors.ranks == tt_svd_bounded(X, 0.4).factors.ranks


def test_the_layout_in_memory_changes_nothing_and_the_tensor_is_left_alone() -> None:
    X = gaussian(6, 5, 4).permute(2, 1, 0).requires_grad_()
    before = X.detach().clone()
    train = tt_svd(X, (3, 4)).factors
    torch.testing.assert_close(train.full(), tt_svd(before.contiguous(), (3, 4)).factors.full(), rtol=1e-9, atol=1e-9)
    assert not any(G.requires_grad for G in train.cores)
    assert torch.equal(X.detach(), before)


def test_weighing_the_input_mode_and_taking_it_back_is_exact_at_full_rank() -> None:
    K, root = gaussian(9, 5, 6), torch.eye(5, dtype=torch.float64) + 0.1 * gaussian(5, 5)
    weighed = torch.einsum("dst,us->dut", K, root)
    train = tt_svd(weighed, (9, 6)).factors.times_input(torch.linalg.inv(root))
    torch.testing.assert_close(train.full(), K, rtol=1e-10, atol=1e-10)


K = gaussian(3, 4, 5)
WRONG = {
    "one mode": (lambda: tt_svd(K[0, 0], ()), "order of 2 or more"),
    "a number": (lambda: tt_svd_bounded(torch.tensor(1.0), 0.1), "order of 2 or more"),
    "rank 0": (lambda: tt_svd(K, (0, 2)), r"rank 1 .* = 3; got \(0, 2\)"),
    "rank above the left": (lambda: tt_svd(K, (1, 5)), r"rank 2 .* = 4; got \(1, 5\)"),
    "rank above the right": (lambda: tt_svd(K, (3, 6)), r"rank 2 .* = 5; got \(3, 6\)"),
    "too few ranks": (lambda: tt_svd(K, (2,)), r"2 ranks; got \(2,\)"),
    "bound of 1": (lambda: tt_svd_bounded(K, 1.0), r"\[0, 1\)"),
    "negative bound": (lambda: tt_svd_bounded(K, -0.1), r"\[0, 1\)"),
    "NaN bound": (lambda: tt_svd_bounded(K, math.nan), r"\[0, 1\)"),
    "too few weights": (lambda: tt_svd_bounded(K, 0.1, (1.0, 1.0)), "3 positive weights"),
    "a weight of 0": (lambda: tt_svd_bounded(K, 0.1, (1.0, 0.0, 1.0)), "3 positive weights"),
    "NaN": (lambda: tt_svd(K * math.nan, (1, 1)), "60 of 60 NaN or Inf"),
    "Inf": (lambda: tt_svd_bounded(K / 0.0, 0.1), "60 of 60 NaN or Inf"),
    "empty mode": (lambda: tt_svd(torch.ones(2, 0, 4), (1, 1)), "without empty modes"),
    "integers": (lambda: tt_svd(torch.ones(2, 3, dtype=torch.int64), (1,)), "floating-point"),
    "1e200": (lambda: tt_svd(K * 1e200, (1, 1)), "between 1e-100 and 1e100"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
