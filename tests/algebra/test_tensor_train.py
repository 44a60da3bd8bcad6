"""The tensor-train format against products of matrices, entry by entry."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.algebra import TensorTrain, largest_tt_ranks, mode_product
from polyadic.errors import DecompositionError

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def gaussian_train(shape: tuple[int, ...], ranks: tuple[int, ...], seed: int = 0) -> TensorTrain:
    bonds = (1, *ranks, 1)
    return TensorTrain(
        tuple(gaussian(bonds[k], size, bonds[k + 1], seed=seed + 17 * k) for k, size in enumerate(shape))
    )


@st.composite
def trains(draw: st.DrawFn) -> TensorTrain:
    shape = tuple(draw(SIZES))
    ranks = tuple(draw(st.integers(1, 4)) for _ in shape[1:])
    return gaussian_train(shape, ranks, draw(st.integers(0, 1000)))


def entries(train: TensorTrain) -> Tensor:
    """Every entry as a product of d matrices."""
    X = torch.zeros(train.shape, dtype=torch.float64)
    for index in itertools.product(*(range(size) for size in train.shape)):
        product = torch.eye(1, dtype=torch.float64)
        for G, i in zip(train.cores, index, strict=True):
            product = product @ G[:, i, :]
        X[index] = product.item()
    return X


@given(trains())
def test_every_entry_is_a_product_of_matrices(train: TensorTrain) -> None:
    torch.testing.assert_close(train.full(), entries(train), **CLOSE)


def test_sizes_ranks_and_parameters_are_those_of_the_cores() -> None:
    train = gaussian_train((4, 5, 6), (2, 3))
    assert (train.shape, train.ranks) == ((4, 5, 6), (2, 3))
    assert train.parameters == 1 * 4 * 2 + 2 * 5 * 3 + 3 * 6 * 1


@given(trains())
def test_sum_difference_and_multiple_are_those_of_the_tensors(train: TensorTrain) -> None:
    other = gaussian_train(train.shape, tuple(rank + 1 for rank in train.ranks), seed=5)
    torch.testing.assert_close((train + other).full(), train.full() + other.full(), **CLOSE)
    assert (train + other).ranks == tuple(2 * rank + 1 for rank in train.ranks)
    for factor in (-2.5, 0.0, 3.0):
        torch.testing.assert_close(train.scaled(factor).full(), factor * train.full(), **CLOSE)


@given(trains())
def test_inner_product_norm_and_distance_are_those_of_the_tensors(train: TensorTrain) -> None:
    other = gaussian_train(train.shape, train.ranks, seed=5)
    X, Y = train.full(), other.full()
    assert float(train.inner(other)) == pytest.approx(float((X * Y).sum()), rel=1e-9, abs=1e-9)
    assert float(train.squared_norm()) == pytest.approx(float(X.square().sum()), rel=1e-9)
    assert train.distance(other) == pytest.approx(float((X - Y).norm()), rel=1e-9, abs=1e-9)


def test_a_small_distance_keeps_its_digits() -> None:
    train = gaussian_train((4, 5, 6), (3, 3))
    step = gaussian_train((4, 5, 6), (1, 1), seed=3)
    assert train.distance(train + step.scaled(1e-9)) == pytest.approx(1e-9 * float(step.full().norm()), rel=1e-4)


@given(trains())
def test_orthogonalisation_keeps_the_tensor_and_makes_orthonormal_cores(train: TensorTrain) -> None:
    left, right = train.left_orthogonal(), train.right_orthogonal()
    for result in (left, right):
        torch.testing.assert_close(result.full(), train.full(), **CLOSE)
        assert all(r <= s for r, s in zip(result.ranks, train.ranks, strict=True))
    for G in left.cores[:-1]:
        Q = G.flatten(0, 1)
        torch.testing.assert_close(Q.mT @ Q, torch.eye(Q.shape[1], dtype=Q.dtype), **CLOSE)
    for G in right.cores[1:]:
        Q = G.flatten(1)
        torch.testing.assert_close(Q @ Q.mT, torch.eye(Q.shape[0], dtype=Q.dtype), **CLOSE)
    norm = float(train.full().norm())
    assert float(left.cores[-1].norm()) == pytest.approx(norm, rel=1e-9)
    assert float(right.cores[0].norm()) == pytest.approx(norm, rel=1e-9)


@given(trains())
def test_reversal_turns_the_modes_around(train: TensorTrain) -> None:
    expected = train.full().permute(*reversed(range(len(train.shape))))
    torch.testing.assert_close(train.reversed().full(), expected, **CLOSE)


@given(trains(), st.data())
def test_mode_product_is_that_of_the_tensor(train: TensorTrain, data: st.DataObject) -> None:
    mode = data.draw(st.integers(0, len(train.shape) - 1))
    M = gaussian(data.draw(st.integers(1, 4)), train.shape[mode])
    torch.testing.assert_close(train.mode_product(M, mode).full(), mode_product(train.full(), M, mode), **CLOSE)
    assert train.mode_product(M, mode).ranks == train.ranks


def test_times_input_multiplies_the_second_mode() -> None:
    train, M = gaussian_train((9, 5, 6), (3, 4)), gaussian(5, 5)
    torch.testing.assert_close(train.times_input(M).full(), torch.einsum("dst,us->dut", train.full(), M), **CLOSE)


def test_equal_norms_keep_the_tensor_and_a_zero_one_stays() -> None:
    train = TensorTrain((1e9 * gaussian(1, 4, 2), gaussian(2, 5, 3), 1e-6 * gaussian(3, 6, 1)))
    equal = train.with_equal_norms()
    torch.testing.assert_close(equal.full(), train.full(), rtol=1e-10, atol=0)
    norms = [float(G.norm()) for G in equal.cores]
    assert max(norms) == pytest.approx(min(norms), rel=1e-12)
    assert not train.scaled(0.0).with_equal_norms().full().any()


def test_equal_norms_bring_a_large_tensor_into_float16() -> None:
    X = torch.full((512, 512), 300.0)  # its norm is 153600, beyond float16
    unit = torch.full((512,), 512**-0.5)
    skewed = TensorTrain((unit[None, :, None], (300 * 512 * unit)[None, :, None]))
    half = skewed.with_equal_norms().to(torch.empty(0, dtype=torch.float16))
    torch.testing.assert_close(half.to(X).full(), X, rtol=2e-3, atol=0)


def test_cores_go_to_the_type_of_another_tensor() -> None:
    train = gaussian_train((4, 5), (2,)).to(torch.empty(0, dtype=torch.float32))
    assert {G.dtype for G in train.cores} == {torch.float32}
    assert train.full().dtype == torch.float32


@pytest.mark.parametrize(
    "cores",
    [
        (),
        (torch.ones(1, 2),),
        (torch.ones(1, 2, 2),),
        (torch.ones(2, 2, 1),),
        (torch.ones(1, 2, 3), torch.ones(2, 2, 1)),
        (torch.ones(1, 0, 1),),
    ],
    ids=["none", "order 2", "open right", "open left", "unequal ranks", "empty mode"],
)
def test_cores_that_do_not_couple_are_refused(cores: tuple[Tensor, ...]) -> None:
    with pytest.raises(DecompositionError, match=r"r_\{k-1\} x I_k x r_k"):
        TensorTrain(cores)


def test_trains_of_two_shapes_are_refused() -> None:
    one, other = gaussian_train((4, 5), (2,)), gaussian_train((5, 4), (2,))
    for operation in (one.inner, one.distance, one.__add__):
        with pytest.raises(DecompositionError, match=r"one shape; got \(4, 5\) and \(5, 4\)"):
            operation(other)


@given(SIZES.filter(lambda sizes: len(sizes) > 1))
def test_largest_ranks_are_those_of_the_unfoldings_of_a_generic_tensor(sizes: list[int]) -> None:
    X = gaussian(*sizes)
    unfoldings = [X.reshape(math.prod(sizes[:k]), -1) for k in range(1, len(sizes))]
    assert largest_tt_ranks(tuple(sizes)) == tuple(int(torch.linalg.matrix_rank(M)) for M in unfoldings)


def test_largest_ranks_can_be_held_down() -> None:
    assert largest_tt_ranks((9, 16, 16, 16), 12) == (9, 12, 12)
    with pytest.raises(DecompositionError, match="at least 1; got at most 0"):
        largest_tt_ranks((4, 5), 0)
