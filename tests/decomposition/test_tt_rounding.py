"""Rounding of tensor trains without the tensor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import gaussian
from polyadic.algebra import TensorTrain, largest_tt_ranks
from polyadic.decomposition import tt_round, tt_svd, tt_svd_bounded
from polyadic.errors import DecompositionError

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


def gaussian_train(shape: tuple[int, ...], rank: int, seed: int = 0) -> TensorTrain:
    bonds = (1, *(rank for _ in shape[1:]), 1)
    return TensorTrain(
        tuple(gaussian(bonds[k], size, bonds[k + 1], seed=seed + 17 * k) for k, size in enumerate(shape))
    )


@given(SHAPES, st.integers(1, 6), st.integers(1, 5), st.integers(0, 50))
def test_rounding_to_ranks_has_the_error_of_tt_svd_of_the_tensor(
    shape: tuple[int, ...], rank: int, most: int, seed: int
) -> None:
    train = gaussian_train(shape, rank, seed)
    X = train.full()
    solution = tt_round(train, ranks=(most,) * (len(shape) - 1))
    measured = float((solution.factors.full() - X).norm() / X.norm())
    assert solution.relative_error == pytest.approx(measured, abs=1e-10)
    if len(shape) > 1:
        assert measured == pytest.approx(tt_svd(X, largest_tt_ranks(shape, most)).relative_error, abs=1e-10)
    assert all(r <= most for r in solution.factors.ranks)


@given(SHAPES, st.integers(1, 6), st.floats(0.0, 0.95), st.integers(0, 50))
def test_a_bound_is_kept_and_costs_what_it_does_for_the_tensor(
    shape: tuple[int, ...], rank: int, error: float, seed: int
) -> None:
    train = gaussian_train(shape, rank, seed)
    X = train.full()
    solution = tt_round(train, error=error)
    assert float((solution.factors.full() - X).norm() / X.norm()) <= error * (1 + 1e-12) + 1e-12
    if len(shape) > 1:
        assert solution.factors.parameters == tt_svd_bounded(X, error).factors.parameters


@given(SHAPES, st.integers(1, 6), st.integers(1, 4))
def test_rounding_a_rounded_train_changes_nothing(shape: tuple[int, ...], rank: int, most: int) -> None:
    once = tt_round(gaussian_train(shape, rank), ranks=(most,) * (len(shape) - 1)).factors
    for again in (tt_round(once, ranks=once.ranks), tt_round(once, error=0.0)):
        assert again.relative_error < 1e-12
        assert again.factors.ranks == once.ranks
        torch.testing.assert_close(again.factors.full(), once.full(), rtol=1e-10, atol=1e-10)


@given(SHAPES, st.integers(1, 3))
def test_a_train_added_to_itself_rounds_to_its_own_ranks(shape: tuple[int, ...], rank: int) -> None:
    train = tt_round(gaussian_train(shape, rank), error=0.0).factors
    twice = tt_round(train + train, error=0.0)
    assert twice.factors.ranks == train.ranks
    torch.testing.assert_close(twice.factors.full(), 2 * train.full(), rtol=1e-9, atol=1e-9)


def test_a_difference_of_equals_rounds_to_a_zero_train_of_rank_one() -> None:
    zero = gaussian_train((4, 5, 6), 3).scaled(0.0)
    for solution in (tt_round(zero, error=0.1), tt_round(zero, ranks=(2, 2))):
        assert solution.relative_error == 0.0
        assert not solution.factors.full().any()
    assert tt_round(zero, error=0.1).factors.ranks == (1, 1)


def test_a_tensor_that_could_not_be_formed_is_rounded() -> None:
    """2^30 entries: the sum of the digits of the index has ranks 2."""
    first = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])  # [sum so far, 1]
    inner = torch.stack([torch.tensor([[1.0, 0.0], [i, 1.0]]) for i in (0.0, 1.0)], dim=1)
    last = torch.stack([torch.tensor([[1.0], [i]]) for i in (0.0, 1.0)], dim=1)
    train = TensorTrain(tuple(G.double() for G in (first, *[inner] * 28, last)))
    assert float(train.squared_norm()) == pytest.approx(2.0**30 * (15**2 + 7.5), rel=1e-12)
    doubled = train + train
    solution = tt_round(doubled, error=1e-10)
    assert solution.factors.ranks == (2,) * 29
    assert solution.relative_error < 1e-10
    assert tt_round(train, error=0.2).factors.ranks == (1,) * 29


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cores_come_back_in_their_type(dtype: torch.dtype) -> None:
    train = gaussian_train((4, 5, 6), 3).to(torch.empty(0, dtype=dtype))
    solution = tt_round(train, ranks=(3, 3))
    assert {G.dtype for G in solution.factors.cores} == {dtype}
    assert solution.relative_error < 8 * torch.finfo(dtype).eps


def test_rounding_leaves_the_graph_alone() -> None:
    cores = tuple(G.requires_grad_() for G in gaussian_train((4, 5, 6), 3).cores)
    assert not any(G.requires_grad for G in tt_round(TensorTrain(cores), ranks=(2, 2)).factors.cores)


TRAIN = gaussian_train((3, 4, 5), 2)
WRONG = {
    "neither": (lambda: tt_round(TRAIN), "ranks or an error bound"),
    "both": (lambda: tt_round(TRAIN, ranks=(1, 1), error=0.1), "ranks or an error bound"),
    "rank 0": (lambda: tt_round(TRAIN, ranks=(0, 1)), "2 ranks of at least 1"),
    "too few ranks": (lambda: tt_round(TRAIN, ranks=(1,)), "2 ranks of at least 1"),
    "bound of 1": (lambda: tt_round(TRAIN, error=1.0), r"\[0, 1\)"),
    "NaN bound": (lambda: tt_round(TRAIN, error=math.nan), r"\[0, 1\)"),
    "weights": (lambda: tt_round(TRAIN, error=0.1, weights=(1.0,)), "3 positive weights"),
    "NaN": (lambda: tt_round(TRAIN.scaled(math.nan), error=0.1), "got nan"),
    "Inf": (lambda: tt_round(TRAIN.scaled(math.inf), ranks=(1, 1)), "norm between 1e-150 and 1e150"),
    "1e200": (lambda: tt_round(TRAIN.scaled(1e200), ranks=(1, 1)), "norm between 1e-150 and 1e150"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()
