"""The Tucker-2 format and the product of two thin matrices."""

from __future__ import annotations

import torch

import oracles
from cases import gaussian
from polyadic.algebra import LowRank, Tucker2Tensor

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def test_tucker2_full_is_the_sum_over_pairs_of_columns() -> None:
    G, U, V = gaussian(4, 2, 3), gaussian(5, 2), gaussian(6, 3)
    tucker = Tucker2Tensor(G, U, V)
    torch.testing.assert_close(tucker.full(), oracles.tucker2_full(G, U, V), **CLOSE)
    assert (tucker.ranks, tucker.shape) == ((2, 3), (4, 5, 6))
    assert tucker.parameters == G.numel() + U.numel() + V.numel() == 5 * 2 + 6 * 3 + 4 * 2 * 3


def test_low_rank_full_is_the_sum_of_outer_products() -> None:
    P, Q = gaussian(5, 2), gaussian(2, 7)
    matrix = LowRank(P, Q)
    expected = sum(torch.outer(P[:, r], Q[r]) for r in range(2))
    torch.testing.assert_close(matrix.full(), expected, **CLOSE)
    assert (matrix.rank, matrix.parameters) == (2, 2 * (5 + 7))


def test_formats_go_to_the_type_of_another_tensor() -> None:
    like = torch.empty(0, dtype=torch.float32)
    assert Tucker2Tensor(gaussian(4, 2, 3), gaussian(5, 2), gaussian(6, 3)).to(like).full().dtype == torch.float32
    assert LowRank(gaussian(5, 2), gaussian(2, 7)).to(like).full().dtype == torch.float32
