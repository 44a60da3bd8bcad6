"""The matrix tensor train against its definition, entry by entry."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import gaussian
from polyadic.algebra import TensorTrain, TTMatrixTensor, balanced_modes, covering_modes
from polyadic.errors import DecompositionError

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def gaussian_tt_matrix(rows: tuple[int, ...], columns: tuple[int, ...], rank: int, seed: int = 0) -> TTMatrixTensor:
    bonds = (1, *(rank for _ in rows[1:]), 1)
    sizes = enumerate(zip(rows, columns, strict=True))
    return TTMatrixTensor(tuple(gaussian(bonds[k], m, n, bonds[k + 1], seed=seed + 17 * k) for k, (m, n) in sizes))


@st.composite
def tt_matrices(draw: st.DrawFn) -> TTMatrixTensor:
    d = draw(st.integers(1, 3))
    rows, columns = (tuple(draw(st.integers(1, 3)) for _ in range(d)) for _ in range(2))
    return gaussian_tt_matrix(rows, columns, draw(st.integers(1, 3)), draw(st.integers(0, 1000)))


def entries(W: TTMatrixTensor) -> Tensor:
    """Row and column from their digits, the first one slowest; each entry a product of d matrices."""
    result = torch.zeros(W.shape, dtype=torch.float64)
    digits = [range(size) for size in (*W.row_modes, *W.column_modes)]
    d = len(W.cores)
    for index in itertools.product(*digits):
        i = j = 0
        product = torch.eye(1, dtype=torch.float64)
        for k, G in enumerate(W.cores):
            i = i * W.row_modes[k] + index[k]
            j = j * W.column_modes[k] + index[d + k]
            product = product @ G[:, index[k], index[d + k], :]
        result[i, j] = product.item()
    return result


@given(tt_matrices())
def test_every_entry_is_a_product_of_matrices(W: TTMatrixTensor) -> None:
    torch.testing.assert_close(W.full(), entries(W), **CLOSE)
    assert W.full().shape == W.shape


def test_a_kronecker_product_is_a_train_of_rank_one() -> None:
    A, B, C = gaussian(2, 3), gaussian(4, 2), gaussian(3, 5)
    W = TTMatrixTensor((A[None, :, :, None], B[None, :, :, None], C[None, :, :, None]))
    torch.testing.assert_close(W.full(), torch.kron(torch.kron(A, B), C), **CLOSE)
    assert W.parameters == A.numel() + B.numel() + C.numel()
    assert (W.ranks, W.row_modes, W.column_modes) == ((1, 1), (2, 4, 3), (3, 2, 5))


@given(tt_matrices(), st.lists(st.integers(1, 3), max_size=2))
def test_times_is_the_product_with_the_matrix(W: TTMatrixTensor, lead: list[int]) -> None:
    x = gaussian(*lead, W.shape[1], seed=2)
    torch.testing.assert_close(W.times(x), x @ W.full().mT, **CLOSE)


def test_times_takes_vectors_that_are_not_contiguous() -> None:
    W, x = gaussian_tt_matrix((2, 3), (3, 2), 2), gaussian(6, 4).mT
    torch.testing.assert_close(W.times(x), x @ W.full().mT, **CLOSE)


def test_times_is_cheap_for_a_matrix_that_could_not_be_formed() -> None:
    W = gaussian_tt_matrix((4,) * 9, (2,) * 9, 2)  # 262144 x 512
    x = torch.zeros(512, dtype=torch.float64)
    x[-1] = 1.0
    column = W.times(x)
    last = torch.eye(1, dtype=torch.float64)
    for G in W.cores:
        last = last @ G[:, 3, 1, :]
    assert float(column[-1]) == pytest.approx(last.item(), rel=1e-9)


@given(tt_matrices())
def test_transpose_sum_multiple_and_norm_are_those_of_the_matrix(W: TTMatrixTensor) -> None:
    other = gaussian_tt_matrix(W.row_modes, W.column_modes, 2, seed=9)
    torch.testing.assert_close((W + other).full(), W.full() + other.full(), **CLOSE)
    assert float(W.train().squared_norm()) == pytest.approx(float(W.full().square().sum()), rel=1e-9)


@given(tt_matrices())
def test_train_and_back_is_the_same_matrix(W: TTMatrixTensor) -> None:
    again = TTMatrixTensor.of(W.train(), W.row_modes, W.column_modes)
    assert all(torch.equal(G, H) for G, H in zip(again.cores, W.cores, strict=True))


def test_cores_go_to_the_type_of_another_tensor() -> None:
    assert gaussian_tt_matrix((2, 2), (2, 2), 2).to(torch.empty(0)).full().dtype == torch.float32


W = gaussian_tt_matrix((2, 3), (3, 2), 2)
WRONG = {
    "order 3": (lambda: TTMatrixTensor((torch.ones(1, 2, 1),)), "m_k x n_k"),
    "uncoupled": (lambda: TTMatrixTensor((torch.ones(1, 2, 2, 2), torch.ones(3, 2, 2, 1))), "neighbours of equal rank"),
    "none": (lambda: TTMatrixTensor(()), "tensor train"),
    "modes": (lambda: TTMatrixTensor.of(TensorTrain((torch.ones(1, 6, 1),)), (2,), (2,)), r"\(6,\)"),
    "fewer modes": (lambda: TTMatrixTensor.of(W.train(), (6,), (6,)), r"\(6, 6\)"),
    "vector": (lambda: W.times(torch.ones(5, dtype=torch.float64)), r"length 6; got shape \(5,\)"),
    "number": (lambda: W.times(torch.tensor(1.0)), "length 6"),
    "sum": (lambda: W + TTMatrixTensor(tuple(G.transpose(1, 2) for G in W.cores)), "equal modes"),
    "input": (lambda: W.times_input(torch.eye(6)), "plain norm"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()


@given(st.integers(1, 4), st.integers(1, 300))
def test_balanced_modes_are_the_product_with_the_least_sum(d: int, n: int) -> None:
    sizes = range(2, n + 1)
    all_products = [c for c in itertools.combinations_with_replacement(sizes, d) if math.prod(c) == n] if d < 3 else []
    try:
        modes = balanced_modes(n, d)
    except DecompositionError:
        assert prime_factors(n) < d
        return
    assert prime_factors(n) >= d
    assert (math.prod(modes), len(modes)) == (n, d)
    assert min(modes) >= 2
    if all_products:
        assert sum(modes) == min(sum(c) for c in all_products)


def prime_factors(n: int) -> int:
    count, p = 0, 2
    while n > 1:
        if n % p:
            p += 1
        else:
            n, count = n // p, count + 1
    return count


@pytest.mark.parametrize(
    ("n", "d", "modes"),
    [
        (64, 3, (4, 4, 4)),
        (128, 3, (4, 8, 4)),
        (62, 2, (2, 31)),
        (8192, 4, (8, 8, 16, 8)),
        (12, 2, (3, 4)),
        (7, 1, (7,)),
    ],
)
def test_balanced_modes_of_common_widths(n: int, d: int, modes: tuple[int, ...]) -> None:
    assert balanced_modes(n, d) == modes


@pytest.mark.parametrize(("n", "d", "enough"), [(61, 2, 63), (61, 3, 64), (10, 3, 12), (3, 3, 8), (1, 2, 4)])
def test_a_count_with_too_few_factors_is_to_be_padded(n: int, d: int, enough: int) -> None:
    with pytest.raises(DecompositionError, match=f"to {enough}"):
        balanced_modes(n, d)


@pytest.mark.parametrize("modes", [balanced_modes, covering_modes])
@pytest.mark.parametrize(("n", "d"), [(0, 1), (4, 0), (-4, 2)])
def test_no_count_and_no_mode_are_refused(modes: Callable[[int, int], tuple[int, ...]], n: int, d: int) -> None:
    with pytest.raises(DecompositionError, match="at least"):
        modes(n, d)


def products(n: int, d: int) -> list[tuple[int, ...]]:
    """All rising d-tuples of whole numbers from 2 on that multiply to n, by trying them."""
    if d < 2:
        return [(n,)] if d == 1 and n >= 2 else [()] if d == 0 and n == 1 else []
    return [
        (*fewer, last)
        for last in range(2, n + 1)
        if n % last == 0
        for fewer in products(n // last, d - 1)
        if fewer[-1] <= last
    ]


@given(st.integers(1, 400), st.integers(1, 4))
@settings(max_examples=150)
def test_covering_modes_are_of_least_sum_among_all_that_are_large_enough(n: int, d: int) -> None:
    modes = covering_modes(n, d)
    size, above_one = math.prod(modes), [mode for mode in modes if mode > 1]
    assert len(modes) == d
    assert n <= size <= n + n // 8
    own = min(products(n, d), key=sum, default=None)
    if own is not None and max(own) <= 2 * min(own):  # even enough as it is
        assert sorted(modes) == list(own)
        return
    within = [found for count in range(n, n + n // 8 + 1) for found in products(count, d)]
    if within:  # no mode is a 1 unless it has to be
        assert len(above_one) == d
        least = min(sum(found) for found in within)
        assert sum(modes) == least
        assert size == min(math.prod(found) for found in within if sum(found) == least)
    else:
        assert len(above_one) < d
        fewer = [found for count in range(n, n + n // 8 + 1) for found in products(count, d - 1)]
        assert (len(above_one) == d - 1) == bool(fewer)


@given(st.integers(1, 2000), st.integers(1, 4))
def test_the_largest_covering_mode_lies_inside(n: int, d: int) -> None:
    modes = covering_modes(n, d)
    peak = modes.index(max(modes))
    rising, falling = modes[: peak + 1], modes[peak:]
    assert list(rising) == sorted(rising)
    assert list(falling) == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("n", "d", "modes"),
    [(128, 3, (4, 8, 4)), (67, 3, (3, 6, 4)), (3, 3, (1, 3, 1)), (1, 2, (1, 1)), (5, 2, (1, 5)), (61, 1, (61,))],
)
def test_covering_modes_of_common_counts(n: int, d: int, modes: tuple[int, ...]) -> None:
    assert sorted(covering_modes(n, d)) == sorted(modes)


def test_covering_modes_of_large_counts_are_found_at_once() -> None:
    for n in (25088, 50257, 10007):
        for d in (2, 3, 4):
            modes = covering_modes(n, d)
            assert n <= math.prod(modes) <= n * 9 / 8
            assert max(modes) <= 2 * min(modes)
