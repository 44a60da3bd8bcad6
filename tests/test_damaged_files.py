"""A part of ``benchmarks/fuzz.py``: files of every kind, damaged."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "fuzz.py"))


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_words() -> None:
    outcomes, wrong = SCRIPT["run"](2300, 0)
    assert wrong == []
    assert all(sum(counts.values()) == 100 for counts in outcomes.values())
