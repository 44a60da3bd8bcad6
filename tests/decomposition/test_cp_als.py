"""Alternating least squares: monotone, exact where it should be, and degenerate where it must be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cases import CASES, border_rank, exact_rank, gaussian, rank_plus_noise
from polyadic.algebra import CPTensor
from polyadic.decomposition import ALSOptions, Solution, StopReason, cp_als
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import initial_cp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import parafac

NEVER = -1.0  # a tolerance that no sweep falls short of
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
ANY_ORDER = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple)


def rises(solution: Solution[CPTensor]) -> bool:
    """Whether the squared error grows from one sweep to the next by more than the rounding of its largest term."""
    growth = np.diff(np.square(solution.history)).max(initial=-np.inf)
    return bool(growth > 1e-14 * max(1.0, solution.stability.sum_squared_intensity))


@given(SHAPES | ANY_ORDER, st.integers(1, 8), st.integers(0, 1000))
def test_the_error_never_rises(shape: tuple[int, ...], rank: int, seed: int) -> None:
    solution = cp_als(gaussian(*shape, seed=seed), rank, ALSOptions(max_sweeps=40, tolerance=NEVER), seed=seed)
    assert not rises(solution)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("init", ["random", "singular"])
def test_the_error_never_rises_on_difficult_tensors(case: str, init: str) -> None:
    solution = cp_als(CASES[case](), 3, ALSOptions(max_sweeps=200, tolerance=NEVER, init=init))
    assert not rises(solution)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_tensor_of_exact_rank_is_recovered(rank: int) -> None:
    solution = cp_als(exact_rank(rank), rank, ALSOptions(max_sweeps=2000, tolerance=1e-22, starts=5))
    assert solution.relative_error < 1e-7  # squared errors are computed to 1e-16
    assert solution.stop is StopReason.CONVERGED


@pytest.mark.parametrize(
    "K",
    [gaussian(4, 5, 6), rank_plus_noise(), CASES["collinear swamp"](), gaussian(4, 1, 6), gaussian(5, 2, 3, 4)],
    ids=["full rank", "rank plus noise", "collinear swamp", "1-wide second mode", "order 4"],
)
@pytest.mark.parametrize("rank", [1, 3])
def test_equal_sweeps_from_one_start_give_the_error_of_tensorly(K: torch.Tensor, rank: int) -> None:
    unit = UnitTensors.of(K[None])
    start = [U[0].numpy().copy() for U in initial_cp(unit, rank, "random", [0]).factors]
    theirs = parafac(unit.X[0].numpy(), rank, n_iter_max=25, init=CPTensor((None, start)), tol=0)
    expected = np.linalg.norm(unit.X[0].numpy() - theirs.to_tensor())
    ours = cp_als(K, rank, ALSOptions(max_sweeps=25, tolerance=NEVER))
    assert ours.relative_error == pytest.approx(expected, abs=1e-6)


def test_terms_of_a_border_rank_tensor_grow_without_end() -> None:
    growth = [
        cp_als(border_rank(), 2, ALSOptions(max_sweeps=sweeps, tolerance=NEVER)).stability.sum_squared_intensity
        for sweeps in (10, 100, 1000)
    ]
    assert growth[1] > 1.5 * growth[0]
    assert growth[2] > 1.5 * growth[1]


def test_growing_terms_under_a_stalled_error_are_called_diverging() -> None:
    solution = cp_als(border_rank(noise=0.03), 2, ALSOptions(max_sweeps=3000, tolerance=NEVER))
    assert solution.stop is StopReason.DIVERGING
    assert "cp-epc" in solution.stop.value


def test_a_quick_convergence_is_not_called_diverging() -> None:
    """A matrix in disguise: its terms grow in the first sweeps and cancel, but then they stand still."""
    solution = cp_als(gaussian(4, 5, 1, seed=221), 3, seed=221)
    assert solution.sweeps < 100
    assert solution.stability.sum_squared_intensity > 100.0
    assert solution.stop is StopReason.CONVERGED


def test_terms_beyond_the_rank_of_a_matrix_stay_bounded() -> None:
    """A singular Gram that Cholesky just accepts once gave terms 10^5 times larger than the tensor."""
    solution = cp_als(gaussian(1, 2, 2, seed=1), 3, ALSOptions(max_sweeps=40, tolerance=NEVER), seed=1)
    assert solution.relative_error < 1e-10
    assert solution.stability.sum_squared_intensity < 100.0


def test_of_several_starts_the_one_that_is_best_after_ten_sweeps_goes_on() -> None:
    K = gaussian(4, 5, 6)
    singles = [cp_als(K, 4, ALSOptions(max_sweeps=10, tolerance=NEVER), seed=seed) for seed in range(4)]
    best = min(range(4), key=lambda seed: singles[seed].relative_error)
    assert best != 0
    several = cp_als(K, 4, ALSOptions(max_sweeps=10, tolerance=NEVER, starts=4), seed=0)
    alone = cp_als(K, 4, ALSOptions(max_sweeps=20, tolerance=NEVER), seed=best)
    assert several.relative_error == pytest.approx(alone.relative_error, rel=1e-9)
    assert several.relative_error <= singles[best].relative_error


@pytest.mark.parametrize("seed", range(4))
def test_after_the_trial_sweeps_several_starts_are_never_worse_than_the_first(seed: int) -> None:
    K = gaussian(3, 4, 3, 2)
    first, several = (
        cp_als(K, 4, ALSOptions(max_sweeps=1, tolerance=NEVER, starts=starts), seed=seed) for starts in (1, 5)
    )
    trial = cp_als(K, 4, ALSOptions(max_sweeps=11, tolerance=NEVER), seed=seed)
    assert several.relative_error <= trial.relative_error + 1e-12  # ten sweeps on trial and one more
    assert several.relative_error < first.relative_error


@pytest.mark.parametrize("shape", [(9, 16, 20), (3, 3, 8, 10)])
def test_single_precision_of_the_products_costs_no_more_than_a_thousandth(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    double, single = (
        cp_als(K, 12, ALSOptions(max_sweeps=100, tolerance=NEVER, precision=precision))
        for precision in ("float64", "float32")
    )
    assert single.relative_error == pytest.approx(double.relative_error, rel=1e-3)
    assert not torch.equal(single.factors.factors[0], double.factors.factors[0])
    assert single.factors.factors[0].dtype == torch.float64


@given(SHAPES | ANY_ORDER, st.integers(1, 8), st.sampled_from(["random", "singular"]))
@example((1, 1, 1), 4, "singular")  # terms of +1 and -1 cancel
def test_a_start_has_the_norm_of_the_tensor_and_balanced_columns(shape: tuple[int, ...], rank: int, init: str) -> None:
    unit = UnitTensors.of(gaussian(2, *shape))
    start = initial_cp(unit, rank, init, [0, 1])
    assert (start.shape, start.rank) == (tuple(sorted(shape)), rank)
    norms = start.full().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms[norms > 0], torch.ones_like(norms[norms > 0]))
    assert all((factor != 0).any() for factor in start.factors)
    assert start.sensitivity().min() > 0
    torch.testing.assert_close(start.sensitivity(), start.rescaled().sensitivity())


def test_a_start_depends_on_its_own_seed_alone() -> None:
    K = gaussian(1, 4, 5, 6)
    both = initial_cp(UnitTensors.of(torch.cat([K, K])), 3, "random", [7, 8])
    alone = initial_cp(UnitTensors.of(K), 3, "random", [8])
    assert all(torch.equal(U[1], V[0]) for U, V in zip(both.factors, alone.factors, strict=True))
    assert not torch.equal(both.factors[0][0], both.factors[0][1])


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 5, 6)])
def test_a_singular_start_spans_the_leading_singular_vectors(shape: tuple[int, ...]) -> None:
    K = gaussian(*shape)
    for mode, U in enumerate(initial_cp(UnitTensors.of(K[None]), 3, "singular", [0])[0].factors):
        vectors = torch.linalg.svd(K.movedim(mode, 0).flatten(1))[0][:, :3]
        overlap = (vectors.mT @ (U / U.norm(dim=0))).abs()
        torch.testing.assert_close(overlap, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-8)
