"""A handful of the random networks of ``benchmarks/differential.py``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from differential import EXPORTS, Found, check_network

SHARED = 2  # a seed whose network every format can take, and torch can export


@pytest.mark.parametrize("seed", range(6))
def test_at_full_rank_every_format_agrees_with_the_dense_network_saved_too_and_costs_with_torch(seed: int) -> None:
    found = check_network(seed)
    assert found.wrong == []
    assert found.replaced
    assert set(found.saved) == set(found.replaced)


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")), reason="the extra onnx"
)
def test_the_files_of_a_random_network_answer_as_it_does() -> None:
    found = check_network(SHARED, ("tkd-cpd-epc",), "tkd-cpd-epc")
    assert (found.wrong, found.refused) == ([], {})
    assert set(found.exported) == set(EXPORTS)


def test_what_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differential.TOLERANCE", 0.0)
    monkeypatch.setattr("differential.load", lambda _, model: model.eval())  # with weights of its own
    found = check_network(SHARED, ("svd",))
    assert any("is off by" in line and "loaded" not in line for line in found.wrong)
    assert any("loaded, answer is off by" in line for line in found.wrong)
    assert isinstance(found, Found)
