from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from kernels import SHAPE, gaussian
from torch import Tensor

from polyadic.errors import DecompositionError
from polyadic.studies import ALL_CUTS, Chain, Cut
from polyadic.studies.cuts import INDICES, truncate_along

PROJECTIONS = ("o+i", "o+oi+w", "oh+o", "i+o+h+w", "ow+h+i")
TREES = (*PROJECTIONS, "oh+o+w")


def error(K: Tensor, other: Tensor) -> float:
    return float((K - other).norm() / K.norm())


@pytest.mark.parametrize("cut", ALL_CUTS, ids=str)
def test_rows_and_columns_are_the_indices_of_the_two_sides(cut: Cut) -> None:
    K = gaussian()
    expected: dict[tuple[int, ...], list[float]] = {}
    for at in itertools.product(*(range(size) for size in SHAPE)):  # the last index runs fastest, as in a matrix
        row = tuple(at[INDICES.index(index)] for index in cut.side)
        expected.setdefault(row, []).append(float(K[at]))
    M = cut.matrix(K)
    assert M.tolist() == [expected[row] for row in sorted(expected)]
    assert torch.equal(cut.folded(M, K.shape), K)
    assert sorted(cut.side + cut.columns) == sorted(INDICES)


@pytest.mark.parametrize("cut", ALL_CUTS, ids=str)
@pytest.mark.parametrize("rank", [1, 2])
def test_truncation_loses_the_smaller_singular_values_and_nothing_else(cut: Cut, rank: int) -> None:
    K = gaussian()
    sigma = np.linalg.svd(cut.matrix(K).numpy(), compute_uv=False)
    short = truncate_along(K, cut, rank)
    assert error(K, short) == pytest.approx(math.sqrt((sigma[rank:] ** 2).sum() / (sigma**2).sum()), abs=1e-12)
    assert np.linalg.matrix_rank(cut.matrix(short).numpy()) == min(rank, len(sigma))


@pytest.mark.parametrize("text", [*map(str, ALL_CUTS), *TREES, "oi+oh"])
def test_at_full_rank_nothing_changes(text: str) -> None:
    K, chain = gaussian().float(), Chain.parse(text)
    assert torch.equal(chain.truncate(K, chain.largest_ranks(SHAPE)), K)
    assert chain.ranks_at(1.0, SHAPE) == chain.largest_ranks(SHAPE)


@pytest.mark.parametrize("text", [*map(str, ALL_CUTS), *PROJECTIONS])
def test_norm_loss_squared_and_kept_energy_make_one(text: str) -> None:
    K, chain = gaussian(), Chain.parse(text)
    for share in (0.2, 0.5, 0.8):
        short = chain.truncate(K, chain.ranks_at(share, SHAPE))
        kept = float(short.square().sum() / K.square().sum())
        assert error(K, short) ** 2 + kept == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("text", TREES)
def test_a_tree_keeps_the_ranks_of_all_its_cuts(text: str) -> None:
    K, chain = gaussian(), Chain.parse(text)
    ranks = chain.ranks_at(0.5, SHAPE)
    short = chain.truncate(K, ranks)
    for cut, rank in zip(chain.cuts, ranks, strict=True):
        assert np.linalg.matrix_rank(cut.matrix(short).numpy()) <= rank


def test_output_then_input_channels_are_the_two_projections_of_tucker2() -> None:
    K = gaussian().numpy()
    V = np.linalg.svd(K.reshape(6, -1))[0][:, :3]
    projected = np.einsum("op,qp,qihw->oihw", V, V, K)
    U = np.linalg.svd(projected.transpose(1, 0, 2, 3).reshape(5, -1))[0][:, :2]
    expected = np.einsum("ip,jp,ojhw->oihw", U, U, projected)
    found = Chain.parse("o+i").truncate(torch.from_numpy(K), (3, 2))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "ranks", "numbers"),
    [
        ("o", (2,), 2 * (6 + 30)),
        ("oi", (2,), 2 * (30 + 6)),
        ("oh", (3,), 3 * (18 + 10)),
        ("o+i", (2, 3), 6 * 2 + 5 * 3 + 2 * 3 * 6),
        ("o+oi+w", (2, 2, 1), 6 * 2 + 2 * 5 * 2 + 2 * 3 * 1 + 2 * 1),
        ("o+oi+w", (2, 4, 1), 6 * 2 + 2 * 5 * 3 + 3 * 3 * 1 + 2 * 1),  # 3 x 1 positions leave a rank of 3
        ("o", (6,), 180),
        ("oi+oh", (2, 2), None),
    ],
)
def test_numbers_in_the_factors(text: str, ranks: tuple[int, ...], numbers: int | None) -> None:
    assert Chain.parse(text).parameters(ranks, SHAPE) == numbers


@pytest.mark.parametrize("text", ["o|ihw", "ihw|o", "hwi | o", "o", "wih"])
def test_a_cut_is_read_from_either_side(text: str) -> None:
    assert str(Cut.parse(text)) == "o|ihw"
    assert str(Cut.parse("hw")) == "oi|hw"
    assert Chain.parse("wh+ihw").short == "oi+o"


@pytest.mark.parametrize("text", ["", "oihw", "x", "o|ih", "o|ihw|", "o|o", "|"])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(DecompositionError, match="a cut divides the indices o, i, h, w"):
        Cut.parse(text)


def test_chains_and_ranks_that_are_none_are_refused() -> None:
    with pytest.raises(DecompositionError, match="several different ones"):
        Chain.parse("o+ihw")
    for ranks in ((1,), (0, 1), (1, 2, 3)):
        with pytest.raises(DecompositionError, match="takes 2 ranks from 1 up"):
            Chain.parse("o+i").truncate(gaussian(), ranks)


def test_in_a_window_of_one_pixel_four_cuts_are_the_same_and_three_cut_nothing() -> None:
    partitions = {str(cut): cut.partition((6, 5, 1, 1)) for cut in ALL_CUTS}
    same = {name for name, sides in partitions.items() if sides == frozenset({frozenset("o"), frozenset("i")})}
    assert same == {"o|ihw", "i|ohw", "oh|iw", "ow|ih"}
    assert all(not sides for name, sides in partitions.items() if name not in same)
