"""A sweep over all factors: its sub-problems, its error and its linear solver, against the definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import oracles
from cases import batch_of, gaussian, gaussian_cp, unit
from polyadic.algebra import CPTensor, contraction
from polyadic.decomposition.alternation import Block, UnitTensors, mttkrps, solve_gram, sweep

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)
RANKS = st.integers(1, 4)
SEEDS = st.integers(0, 1000)
ASCENDING = [(3, 4, 5), (1, 4, 6), (2, 3, 4, 5), (1, 3, 3, 4), (2, 2, 3, 3, 4)]


def ridge(block: Block) -> Tensor:
    """A factor that differs from the one before and from least squares."""
    return block.G @ torch.linalg.inv(block.Gamma + torch.eye(block.Gamma.shape[-1]))


@pytest.mark.parametrize("shape", ASCENDING)
@pytest.mark.parametrize("limit", [1, 30, 10**6])
def test_a_sweep_poses_the_sub_problems_of_the_definition_one_after_the_other(
    shape: tuple[int, ...], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sub-problem sees the factors that were updated before it, in every member of the batch."""
    monkeypatch.setattr(contraction, "_SLICE", {"cpu": limit})
    X = torch.stack([unit(gaussian(*shape, seed=seed)) for seed in (0, 1)])
    starts = [gaussian_cp(shape, 3, seed=seed) for seed in (2, 3)]
    seen: list[Block] = []

    def update(block: Block) -> Tensor:
        seen.append(block)
        return ridge(block)

    after, _ = sweep(UnitTensors.of(X), batch_of(*starts), update)
    assert [block.mode for block in seen] == list(range(len(shape)))
    for number, start in enumerate(starts):
        factors = list(start.factors)
        for mode, block in enumerate(seen):
            expected = oracles.block_of(X[number], CPTensor(tuple(factors)), mode)
            assert block.sizes == expected.sizes
            for name in ("factor", "G", "Gamma", "norms"):
                torch.testing.assert_close(getattr(block, name)[number], getattr(expected, name)[0], **CLOSE)
            weight = oracles.sensitivity_weight(CPTensor(tuple(factors)), mode)
            torch.testing.assert_close(block.weight[number], weight, **CLOSE)
            factors[mode] = after.factors[mode][number]


@given(SHAPES, RANKS, SEEDS)
def test_the_error_of_a_sweep_is_that_of_the_formed_tensor(shape: tuple[int, ...], R: int, seed: int) -> None:
    tensors = torch.stack([gaussian(*shape, seed=seed), gaussian(*shape, seed=seed + 1), torch.zeros(shape).double()])
    X = UnitTensors.of(tensors)
    starts = batch_of(*(gaussian_cp(X.X.shape[1:], R, seed=seed + member) for member in range(3)))
    cp, error = sweep(X, starts, ridge)
    torch.testing.assert_close(error, (X.X - cp.full()).flatten(1).square().sum(1), rtol=0, atol=1e-12)


@given(SHAPES, RANKS, SEEDS)
def test_mttkrps_are_sums_over_all_other_indices(shape: tuple[int, ...], R: int, seed: int) -> None:
    X = UnitTensors.of(gaussian(1, *shape, seed=seed))
    cp = gaussian_cp(tuple(X.X.shape[1:]), R, seed)
    for mode, G in enumerate(mttkrps(X, batch_of(cp))):
        torch.testing.assert_close(G[0], oracles.einsum_mttkrp(X.X[0], cp.factors, mode), **CLOSE)


@given(SHAPES, RANKS, SEEDS)
def test_a_unit_tensor_has_norm_one_ascending_sizes_and_the_way_back(shape: tuple[int, ...], R: int, seed: int) -> None:
    K = 7.0 * gaussian(2, *shape, seed=seed)
    X = UnitTensors.of(K)
    assert len(X) == 2
    assert X.X.is_contiguous()
    assert list(X.X.shape[1:]) == sorted(shape)
    torch.testing.assert_close(X.X.flatten(1).norm(dim=1), torch.ones(2).double())
    scale = X.norms.reshape(2, *[1] * len(shape))
    torch.testing.assert_close(scale * X.X, K.permute(0, *(n + 1 for n in X.order)), **CLOSE)
    cp = batch_of(gaussian_cp(shape, R, seed), gaussian_cp(shape, R, seed + 1))
    inside = X.inside(cp)
    torch.testing.assert_close(scale * inside.full(), cp.full().permute(0, *(n + 1 for n in X.order)), **CLOSE)
    torch.testing.assert_close(X.outside(inside).full(), cp.full(), **CLOSE)
    last = X[torch.tensor([1, 1])]
    assert torch.equal(last.X, X.X[[1, 1]])
    assert torch.equal(last.norms, X.norms[[1, 1]])


def test_a_zero_tensor_stays_zero_and_has_zero_factors() -> None:
    X = UnitTensors.of(torch.zeros(1, 3, 4, 5).double())
    assert not X.X.any()
    assert float(X.squares) == 0.0
    assert not X.inside(batch_of(gaussian_cp((3, 4, 5), 2))).full().any()
    assert not X.outside(batch_of(gaussian_cp((3, 4, 5), 2))).full().any()


@given(st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_a_regular_gram_is_solved_as_by_a_general_solver(rows: int, R: int, seed: int) -> None:
    Z, G = gaussian(2, R + 3, R, seed=seed), gaussian(2, rows, R, seed=seed + 1)
    Gamma = Z.mT @ Z
    torch.testing.assert_close(solve_gram(Gamma, G), torch.linalg.solve(Gamma, G.mT).mT, rtol=1e-6, atol=1e-6)


@given(st.integers(2, 6), st.integers(1, 5), SEEDS)
def test_a_singular_gram_gets_the_least_norm_over_unit_columns(R: int, width: int, seed: int) -> None:
    """Members of a batch need not share their fate: the first is regular, the second has equal columns."""
    Z = gaussian(2, R + width, R, seed=seed)
    Z[1, :, 0] = 3.0 * Z[1, :, 1]
    W = gaussian(2, 4, R + width, seed=seed + 1)
    found = solve_gram(Z.mT @ Z, W @ Z)
    d = Z.norm(dim=1, keepdim=True)
    expected = W @ torch.linalg.pinv((Z / d).mT, rtol=1e-7) / d
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_dead_term_stays_dead_and_the_others_are_solved_without_it() -> None:
    Z = gaussian(1, 6, 3)
    Z[:, :, 1] = 0.0
    W = gaussian(1, 4, 6, seed=1)
    found = solve_gram(Z.mT @ Z, W @ Z)
    assert not found[:, :, 1].any()
    alive = Z[:, :, [0, 2]]
    expected = torch.linalg.lstsq(alive, W.mT).solution.mT
    torch.testing.assert_close(found[:, :, [0, 2]], expected, rtol=1e-8, atol=1e-8)
