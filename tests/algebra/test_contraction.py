"""Partial contractions against einsum, whole and in slices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cases import gaussian
from polyadic.algebra import contraction
from polyadic.algebra.contraction import (
    Scratch,
    contract_all_but_last,
    contract_inner,
    contract_last,
    contract_leading,
)

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
SIZES = st.integers(1, 4)
ALL_SIZES = st.tuples(SIZES, SIZES, SIZES, SIZES, SIZES)
# numbers per slice: one pair (b, h) at a time, a few, several members at a time, everything at once
slices = pytest.mark.parametrize("limit", [1, 7, 40, 10**6])


def limit_slices(limit: int) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(contraction, "_SLICE", {"cpu": limit})
    return patch


@slices
@given(ALL_SIZES)
@example((2, 7, 1, 3, 3))  # slices of two, two, two and one at the limit 7
@example((2, 7, 3, 5, 4))  # of three, three and one at 40
def test_every_contraction_is_its_sum_over_indices(limit: int, sizes: tuple[int, ...]) -> None:
    b, h, j, length, r = sizes
    X, P, scratch = gaussian(b, h, j, length), gaussian(b, h, j, r), Scratch()
    W, U, V = gaussian(b, h, r, seed=1), gaussian(b, j, r, seed=2), gaussian(b, length, r, seed=3)
    patch = limit_slices(limit)
    try:
        found = [
            contract_last(X.flatten(1, 2), V, scratch).clone(),
            contract_inner(P, U, scratch),
            contract_leading(P, W, scratch),
            contract_all_but_last(X, W, U, scratch),
        ]
    finally:
        patch.undo()
    expected = [
        torch.einsum("bhl,blr->bhr", X.flatten(1, 2), V),
        torch.einsum("bhjr,bjr->bhr", P, U),
        torch.einsum("bhjr,bhr->bjr", P, W),
        torch.einsum("bhjl,bhr,bjr->blr", X, W, U),
    ]
    for result, sum_over_indices in zip(found, expected, strict=True):
        torch.testing.assert_close(result, sum_over_indices, **CLOSE)


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9), st.integers(1, 60))
def test_the_slices_cover_every_pair_once_and_stay_small(batch: int, leading: int, unit: int, limit: int) -> None:
    patch = limit_slices(limit)
    try:
        parts = list(contraction._slices(torch.device("cpu"), batch, leading, unit))
    finally:
        patch.undo()
    covered = [(b, h) for bs, hs in parts for b in range(bs.start, bs.stop) for h in range(hs.start, hs.stop)]
    assert sorted(covered) == [(b, h) for b in range(batch) for h in range(leading)]
    for bs, hs in parts:
        pairs = (bs.stop - bs.start) * (hs.stop - hs.start)
        assert pairs == 1 or pairs * unit <= limit


@slices
def test_single_precision_stays_single(limit: int) -> None:
    X, W, U = gaussian(2, 3, 4, 5).float(), gaussian(2, 3, 6).float(), gaussian(2, 4, 6).float()
    patch = limit_slices(limit)
    try:
        G = contract_all_but_last(X, W, U, Scratch())
    finally:
        patch.undo()
    assert G.dtype == torch.float32
    exact = torch.einsum("bhjl,bhr,bjr->blr", X.double(), W.double(), U.double())
    torch.testing.assert_close(G.double(), exact, rtol=1e-5, atol=1e-5)


def test_scratch_memory_is_used_again_where_it_suffices() -> None:
    scratch, like = Scratch(), gaussian(1)
    first = scratch.take("partial", (4, 5), like)
    assert scratch.take("partial", (3, 2), like).data_ptr() == first.data_ptr()
    assert scratch.take("partial", (3, 2), like).shape == (3, 2)
    assert scratch.take("product", (4, 5), like).data_ptr() != first.data_ptr()
    assert scratch.take("partial", (4, 5), like.float()).dtype == torch.float32
    assert scratch.take("partial", (40, 50), like).shape == (40, 50)
