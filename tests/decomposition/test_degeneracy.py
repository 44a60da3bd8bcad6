"""Near tensors without a best approximation: plain ALS runs away, the stable solvers stay bounded and say so."""

from __future__ import annotations

import pytest
import torch

from cases import border_rank, collinear_swamp, exact_rank, gaussian, rank_plus_noise
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    LMOptions,
    RidgeOptions,
    StableOptions,
    StopReason,
    cp_als,
    cp_bounded,
    cp_lm,
    cp_ridge,
    cp_ridge_batch,
    stable_cp,
)

SPARSE_PATH = RidgeOptions(weakening=3.0, max_sweeps=40)


def border_rank_of_order_4() -> torch.Tensor:
    """``a o a o a o b`` and its three rotations: border rank 2, rank 4."""
    a, b = torch.eye(2, dtype=torch.float64)
    vectors = [[b if mode == n else a for mode in range(4)] for n in range(4)]
    return torch.stack([torch.einsum("i,j,k,l->ijkl", *four) for four in vectors]).sum(0)


BORDER = {"order 3": border_rank, "order 4": border_rank_of_order_4}


@pytest.mark.parametrize("case", BORDER)
def test_terms_of_an_unpenalised_fit_grow_beyond_a_thousand(case: str) -> None:
    """By Levenberg-Marquardt steps, which go the same way as ALS sweeps, only faster."""
    K = BORDER[case]()
    few, more = (cp_lm(K, 2, LMOptions(max_steps=steps, tolerance=0.0)) for steps in (20, 200))
    assert more.stability.sum_squared_intensity > 1e3
    assert more.stability.sum_squared_intensity > 10 * few.stability.sum_squared_intensity


@pytest.mark.parametrize("case", BORDER)
def test_the_homotopy_stays_bounded_and_calls_it_degenerate(case: str) -> None:
    K = BORDER[case]()
    solution = cp_ridge(K, 2, SPARSE_PATH)
    assert solution.stop is StopReason.DEGENERATE
    assert solution.stability.sum_squared_intensity < 300
    assert solution.relative_error < 5e-3


def test_stable_cp_passes_the_verdict_on() -> None:
    solution = stable_cp(
        border_rank(), 2, StableOptions(ridge=SPARSE_PATH, fit=BoundedOptions(max_sweeps=20), starts=1)
    )
    assert solution.stop is StopReason.DEGENERATE
    assert "cancelling components" in solution.stop.value
    assert solution.stability.sum_squared_intensity < 300


@pytest.mark.parametrize("max_sweeps", [30, 300])
def test_the_verdict_does_not_depend_on_how_long_each_penalty_is_held(max_sweeps: int) -> None:
    """Sweeps may rest on a plateau for a few penalties, the last ones among them."""
    solution = cp_ridge(border_rank(), 2, RidgeOptions(weakening=2.0, max_sweeps=max_sweeps))
    assert solution.stop is StopReason.DEGENERATE


@pytest.mark.parametrize(
    "K",
    [
        exact_rank(2),
        rank_plus_noise(),
        collinear_swamp(),
        gaussian(4, 5, 6),
        gaussian(3, 2, 4, 3),
        exact_rank(2) + 1e-4 * gaussian(4, 5, 6),
        border_rank(noise=0.04),
    ],
    ids=["exact", "noise", "swamp", "full rank", "order 4", "nearly exact", "near border rank"],
)
def test_ordinary_tensors_converge(K: torch.Tensor) -> None:
    assert cp_ridge(K, 2).stop is StopReason.CONVERGED
    assert stable_cp(K, 2, StableOptions(starts=1)).stop is StopReason.CONVERGED


def test_in_a_batch_only_the_degenerate_member_is_called_so() -> None:
    tensors = [gaussian(3, 3, 3), border_rank(), border_rank(noise=0.04)]
    stops = [solution.stop for solution in cp_ridge_batch(tensors, 2, SPARSE_PATH)]
    assert stops[1] is StopReason.DEGENERATE
    assert StopReason.DEGENERATE not in (stops[0], stops[2])


def test_a_bounded_fit_keeps_terms_where_they_are_and_als_undoes_it() -> None:
    K = border_rank()
    start = cp_ridge(K, 2, RidgeOptions(weakest=1e-5))
    bounded = cp_bounded(K, start.factors, BoundedOptions(max_sweeps=200))
    assert bounded.stability.sensitivity <= start.stability.sensitivity * (1 + 1e-8)
    assert bounded.stability.sum_squared_intensity < 1.1 * start.stability.sum_squared_intensity
    growth = [
        cp_als(K, 2, ALSOptions(max_sweeps=sweeps, tolerance=-1.0)).stability.sum_squared_intensity
        for sweeps in (50, 800)
    ]
    assert growth[1] > 2.5 * growth[0]
