"""A handful of the random networks of ``benchmarks/differential.py``."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "differential.py"))


@pytest.mark.parametrize("seed", range(6))
def test_at_full_rank_every_format_agrees_with_the_dense_network_and_costs_with_torch(seed: int) -> None:
    replaced, wrong = SCRIPT["check_network"](seed)
    assert wrong == []
    assert replaced
