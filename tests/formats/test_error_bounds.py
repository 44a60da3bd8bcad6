"""An error bound finds its rank from the spectra of the kernel, with as few decompositions as they leave open."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from cases import gaussian
from polyadic.formats import format as module
from polyadic.formats import format_named, rank_for
from polyadic.formats.rank_for import ErrorSearch
from polyadic.schema import ConvSpec

WINDOW = ConvSpec(6, 8, (3, 3), (1, 1), (1, 1), (1, 1))
GROUPS = ConvSpec(12, 8, (3, 3), (1, 1), (1, 1), (1, 1), groups=2)
MATRIX = ConvSpec(40, 30)
CASES = [
    ("svd", MATRIX, 0),
    ("spatial-svd", WINDOW, 0),
    ("spatial-svd", GROUPS, 0),
    ("tucker2", WINDOW, 4),
    ("tucker2", GROUPS, 4),
    ("tt", WINDOW, 5),
    ("tt-matrix", WINDOW, 5),
    ("cp-epc", WINDOW, 9),
    ("cp4-epc", WINDOW, 9),
]


@pytest.mark.parametrize(("name", "spec", "most"), CASES)
@pytest.mark.parametrize("error", [pytest.param(0.2, marks=pytest.mark.slow), 0.5])
def test_few_decompositions_find_the_rank_that_all_would(name: str, spec: ConvSpec, most: int, error: float) -> None:
    fmt, kernel = format_named(name), gaussian(*spec.weight_shape).float()
    solve, calls = type(fmt).solve_all, []

    def counted(self: object, *arguments: object) -> object:
        calls.append(arguments)
        return solve(self, *arguments)

    with mock.patch.object(type(fmt), "solve_all", counted):
        found = rank_for(fmt, kernel, spec, error=error)
    assert len(calls) <= most
    open_bounds = mock.patch.object(
        module.Format, "error_bounds", lambda _, kernel, spec, ranks: [(0.0, float("inf"))] * len(ranks)
    )
    with open_bounds:
        assert rank_for(fmt, kernel, spec, error=error) == found
    assert fmt.factorise(kernel, spec, found).relative_error <= error


@pytest.mark.parametrize("name", ["cp-epc", "cp4-epc", "tucker2", "tkd-cpd-epc", "spatial-svd", "tt", "tt-matrix"])
@pytest.mark.parametrize("spec", [WINDOW, GROUPS])
def test_errors_lie_within_their_bounds(name: str, spec: ConvSpec) -> None:
    fmt, kernel = format_named(name), gaussian(*spec.weight_shape)
    if fmt.refuses(spec):
        return
    ranks = fmt.candidate_ranks(kernel, spec)
    for rank in ranks[:: max(1, len(ranks) // 3)]:
        ((least, most),) = fmt.error_bounds(kernel, spec, [rank])
        assert least - 1e-9 <= fmt.factorise(kernel, spec, rank).relative_error <= most + 1e-9


def test_the_bounds_of_a_zero_kernel_are_zero() -> None:
    assert format_named("svd").error_bounds(torch.zeros(30, 40), MATRIX, [(1,), (30,)]) == [(0.0, 0.0)] * 2


FALLING = {
    "straight": lambda rank: 1.0 - rank / 52,
    "by the same factor": lambda rank: 0.92**rank,
    "suddenly": lambda rank: 0.95 if rank < 97 else 0.0,
    "hardly": lambda rank: 0.999**rank,
}


@pytest.mark.parametrize(
    ("law", "most"), [("straight", 8), ("by the same factor", 8), ("suddenly", 12), ("hardly", 12)]
)
@pytest.mark.parametrize("allowed", [0.3, 0.05])
def test_few_trials_find_the_first_rank_that_keeps_a_bound(law: str, most: int, allowed: float) -> None:
    errors = [max(FALLING[law](rank), 0.0) for rank in range(1, 145)]
    search, tried = ErrorSearch(-1, len(errors), len(errors), allowed), []
    while (at := search.proposed()) is not None:
        tried.append(at)
        search.learn(at, errors[at])
    assert search.high == next((at for at, error in enumerate(errors) if error <= allowed), len(errors))
    assert len(tried) == len(set(tried)) <= most


def test_a_cp_of_a_kernel_takes_four_decompositions() -> None:
    fmt, spec = format_named("cp-epc"), ConvSpec(16, 16, (3, 3), (1, 1), (1, 1), (1, 1))
    kernel = torch.randn(spec.weight_shape, generator=torch.Generator().manual_seed(0))
    with mock.patch.object(type(fmt), "solve_all", autospec=True, side_effect=type(fmt).solve_all) as solve:
        rank_for(fmt, kernel, spec, error=0.3)
    assert solve.call_count <= 4
