"""A batch is each of its members alone, also where they finish at different times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cases import batch_of, exact_rank, gaussian, gaussian_cp, rank_plus_noise, unit
from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    EPCOptions,
    LMOptions,
    Objective,
    RidgeOptions,
    Solution,
    StableOptions,
    StopReason,
    cp_als,
    cp_als_batch,
    cp_ridge,
    cp_ridge_batch,
    stable_cp,
    stable_cp_batch,
)
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.batch import Batch, Finished
from polyadic.decomposition.cp_bounded import fit_bounded
from polyadic.decomposition.cp_epc import correct
from polyadic.decomposition.cp_lm import damped_steps
from polyadic.errors import DecompositionError

R = 3
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
ORDER_4 = [gaussian(3, 2, 4, 3, seed=seed) for seed in range(3)]
# one converges at once, one late, one is zero
ORDER_3 = [exact_rank(2), 5.0 * gaussian(4, 5, 6), torch.zeros(4, 5, 6).double(), rank_plus_noise()]
every_batch = pytest.mark.parametrize("tensors", [ORDER_3, ORDER_4], ids=["order 3", "order 4"])


def assert_same(one: Solution[CPTensor], other: Solution[CPTensor]) -> None:
    assert one.sweeps == other.sweeps
    assert one.stop is other.stop
    for U, V in zip(one.factors.factors, other.factors.factors, strict=True):
        torch.testing.assert_close(U, V, **CLOSE)
    assert one.relative_error == pytest.approx(other.relative_error, abs=1e-9)


@every_batch
def test_als_sweeps_of_a_batch_are_those_of_its_members(tensors: list[Tensor]) -> None:
    options, seeds = ALSOptions(max_sweeps=40, tolerance=1e-4), [4, 3, 2, 1][: len(tensors)]
    together = cp_als_batch(tensors, R, options, seeds=seeds)
    assert len({solution.sweeps for solution in together}) > 1
    for K, seed, solution in zip(tensors, seeds, together, strict=True):
        assert_same(solution, cp_als(K, R, options, seed=seed))


def test_several_starts_of_a_batch_are_those_of_its_members() -> None:
    options = ALSOptions(max_sweeps=5, starts=3)
    together = cp_als_batch(ORDER_3, R, options, seeds=[0, 5, 9, 2])
    for K, seed, solution in zip(ORDER_3, [0, 5, 9, 2], together, strict=True):
        assert_same(solution, cp_als(K, R, options, seed=seed))


@every_batch
def test_paths_of_a_batch_are_those_of_its_members(tensors: list[Tensor]) -> None:
    options = RidgeOptions(max_sweeps=15, weakening=2.0)
    together = cp_ridge_batch(tensors, R, options)
    assert len({solution.sweeps for solution in together}) > 1
    for K, solution in zip(tensors, together, strict=True):
        assert_same(solution, cp_ridge(K, R, options))


@every_batch
@pytest.mark.parametrize("starts", [1, 3])
def test_stable_cp_of_a_batch_is_that_of_its_members(tensors: list[Tensor], starts: int) -> None:
    options = StableOptions(
        ridge=RidgeOptions(max_sweeps=10, weakening=2.0),
        fit=BoundedOptions(max_sweeps=15),
        epc=EPCOptions(error_slack=0.02, max_sweeps=10),
        starts=starts,
    )
    for K, solution in zip(tensors, stable_cp_batch(tensors, R, options, seed=1), strict=True):
        assert_same(solution, stable_cp(K, R, options, seed=1))


def runs_alike(
    solve: Callable[[UnitTensors, CPTensor, slice], list[Finished]], tensors: list[Tensor], tolerance: float = 1e-9
) -> list[Finished]:
    """Run from equal starts together and one by one; returns the runs together."""
    K = torch.stack(tensors)
    everyone = UnitTensors.of(K)
    shape = tuple(everyone.X.shape[1:])
    starts = batch_of(*(gaussian_cp(shape, R, seed).rescaled().scaled(0.3) for seed in range(len(tensors))))
    together = solve(everyone, starts, slice(0, len(tensors)))
    for number, run in enumerate(together):
        only = slice(number, number + 1)
        (alone,) = solve(UnitTensors.of(K[only]), starts[only], only)
        assert len(run.squared_errors) == len(alone.squared_errors)
        assert run.stop is alone.stop
        for U, V in zip(run.cp.factors, alone.cp.factors, strict=True):
            torch.testing.assert_close(U, V, rtol=tolerance, atol=tolerance)
    return together


@every_batch
@pytest.mark.parametrize("objective", Objective)
def test_bounded_fits_of_a_batch_are_those_of_its_members(tensors: list[Tensor], objective: Objective) -> None:
    bounds = torch.tensor([3.0, 30.0, 8.0, 15.0], dtype=torch.float64)
    options = BoundedOptions(objective=objective, max_sweeps=30, tolerance=1e-4)
    runs = runs_alike(lambda X, cp, who: fit_bounded(X, cp, bounds[: len(tensors)][who], options), tensors)
    assert len({len(run.squared_errors) for run in runs}) > 1


@every_batch
def test_corrections_of_a_batch_are_those_of_its_members(tensors: list[Tensor]) -> None:
    bounds = torch.tensor([0.5, 0.8, 0.01, 0.9], dtype=torch.float64)
    options = EPCOptions(max_sweeps=25, tolerance=1e-2, patience=2)
    runs = runs_alike(lambda X, cp, who: correct(X, cp, bounds[: len(tensors)][who], options), tensors)
    assert len({len(run.squared_errors) for run in runs}) > 1


@every_batch
@pytest.mark.parametrize("mu", [0.0, 1e-3])
def test_damped_steps_of_a_batch_are_those_of_its_members(tensors: list[Tensor], mu: float) -> None:
    options = LMOptions(mu=mu, max_steps=8, tolerance=0.05, patience=1)
    # conjugate gradients multiply rounding by the condition of the normal equations
    runs = runs_alike(lambda X, cp, who: damped_steps(X, cp, options), tensors, tolerance=1e-6)
    assert len({len(run.squared_errors) for run in runs}) > 1


def test_those_who_are_done_leave_and_the_others_keep_their_numbers() -> None:
    X = UnitTensors.of(torch.stack([unit(gaussian(2, 3, 4, seed=seed)) for seed in range(3)]))
    cp = batch_of(*(gaussian_cp((2, 3, 4), 2, seed) for seed in range(3)))
    batch, stops = Batch(X), [StopReason.CONVERGED, StopReason.MAX_SWEEPS, StopReason.DIVERGING]
    batch.record(torch.tensor([0.1, 0.2, 0.3]))
    assert batch.retire(torch.tensor([False, False, False]), cp, stops) is None
    staying = batch.retire(torch.tensor([False, True, False]), cp, stops)
    assert staying is not None
    assert (staying.tolist(), batch.members) == ([0, 2], [0, 2])
    assert torch.equal(batch.unit.X, X.X[[0, 2]])
    batch.record(torch.tensor([0.01, 0.03]))
    assert batch.errors(2) == pytest.approx([0.3, 0.03])
    assert batch.retire(torch.tensor([True, True]), cp[staying], [stops[0], stops[2]]) is None
    runs = batch.finished()
    assert [run.stop for run in runs] == stops
    assert [len(run.squared_errors) for run in runs] == [2, 1, 2]
    for number, run in enumerate(runs):
        assert all(torch.equal(U, V[number]) for U, V in zip(run.cp.factors, cp.factors, strict=True))


@pytest.mark.parametrize("solve", [cp_als_batch, cp_ridge_batch, stable_cp_batch])
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "one or more tensors of one shape"),
        ([gaussian(3, 4, 5), gaussian(3, 4, 6)], r"\(3, 4, 5\), \(3, 4, 6\)"),
        ([gaussian(3, 4, 5), gaussian(3, 4, 5) * torch.nan], "60 of 60 NaN"),
    ],
    ids=["nothing", "two shapes", "one NaN"],
)
def test_what_is_no_batch_is_refused(
    solve: Callable[[list[Tensor], int], object], tensors: list[Tensor], message: str
) -> None:
    with pytest.raises(DecompositionError, match=message):
        solve(tensors, 2)
