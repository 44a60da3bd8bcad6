"""What notebooks show of results, searches, forecasts and studies, and rows as data frames."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from documents_by_hand import degeneracy, layers, truncation
from summaries import LAYERS, summary
from test_report_page import HOSTILE, assert_inert, parsed, svg_of, texts
from torch import nn

from polyadic.errors import PolyadicError
from polyadic.pipeline import CompressionResult, CostEstimate, LayerEstimate, SearchResult, TriedPlan
from polyadic.schema import Choice, Cost, DegeneracyStudy, LayerStudy, Plan, Rows, TruncationStudy


def found(name: str = "conv") -> SearchResult:
    tried = [
        TriedPlan(Plan((Choice(f"{name}1", "svd", (rank,)),)), Cost(rank, 100 * rank, 4 * rank), drop, None)
        for rank, drop in ((2, float("nan")), (5, 1.5))
    ]
    return SearchResult(
        tried=tried[1],
        dense=Cost(10, 1000, 40),
        dense_score=0.9,
        search=name,
        stop=name,
        trials=2,
        front=tuple(tried),
        seconds={"search": 1.0},
        layers=(LayerEstimate(f"{name}1", 1000, 500, "svd", 5), LayerEstimate(f"{name}2", 0, 0, reason=name)),
        provenance={"model": name, "loss": float("inf")},
    )


def planned(name: str = "conv") -> CostEstimate:
    told = (LayerEstimate(f"{name}1", 900, 300, "svd", 3), LayerEstimate(f"{name}2", 100, 100, reason=name))
    return CostEstimate(Plan((Choice(f"{name}1", "svd", (3,)),)), Cost(10, 1000, 40), Cost(5, 400, 20), told)


SHOWN: dict[str, Any] = {
    "found": found,
    "forecast": planned,
    "truncation": lambda name="layer": TruncationStudy.from_json(truncation(name)),
    "degeneracy": lambda name="layer": DegeneracyStudy.from_json(degeneracy(name)),
    "layers": lambda name="layer": LayerStudy.from_json(layers(name)),
}


def piece(shown: str) -> str:
    """A page around a piece, as a notebook is one."""
    body = shown.partition("</style>")[2].encode("utf-8", "replace").decode()
    whole = "".join(" " if ord(letter) < 32 and letter not in "\n\t" else letter for letter in body)
    return f'<!DOCTYPE html>\n<html lang="en"><head><title>n</title></head><body>{whole}</body></html>'


@pytest.mark.parametrize("kind", SHOWN)
def test_a_piece_has_figures_in_words_and_a_plot(kind: str) -> None:
    tree = parsed(piece(SHOWN[kind]()._repr_html_()))
    assert len(svg_of(tree)) == 1
    assert len(texts(tree, "b")) >= 3


@pytest.mark.parametrize("kind", SHOWN)
def test_hostile_names_do_nothing_in_a_notebook(kind: str) -> None:
    assert_inert(piece(SHOWN[kind](HOSTILE)._repr_html_()))


def test_a_result_shows_itself_its_rows_and_its_figures() -> None:
    result = CompressionResult(nn.Identity(), nn.Identity(), summary(), torch.zeros(1))
    assert any("1.71x fewer" in text for text in texts(parsed(piece(result._repr_html_())), "b"))
    assert [row["layer"] for row in result.records()] == [layer.name for layer in LAYERS]
    assert {"strip", "cost", "error", "sensitivity", "drop"} <= set(result.figures())


@pytest.mark.parametrize("kind", [kind for kind in SHOWN if kind != "forecast"])
def test_figures_are_whole_drawings(kind: str) -> None:
    figures = SHOWN[kind]().figures()
    assert figures
    for drawing in figures.values():
        assert ET.fromstring(drawing._repr_svg_().encode()).tag.endswith("svg")


def test_rows_are_tidy_and_say_which_plan_was_chosen() -> None:
    rows = [(row["macs"], row["drop"] == 1.5, row["chosen"]) for row in found().records()]
    assert rows == [(200, False, False), (500, True, True)]
    assert [row["macs_after"] for row in planned().records()] == [300, 100]
    assert len(SHOWN["layers"]().records()) == 8
    for kind in SHOWN:
        assert len({tuple(row) for row in SHOWN[kind]().records()}) == 1, kind


def test_a_document_of_a_search_is_json_without_infinities() -> None:
    document = found().to_json()
    assert document["front"][0]["drop"] is None
    assert document["provenance"]["loss"] is None
    expected = {"params": 5, "macs": 500, "bytes": 20, "drop": 1.5, "loss": None}
    assert {key: document["plan"][key] for key in expected} == expected
    assert document["plan"]["layers"] == [{"layer": "conv1", "format": "svd", "rank": 5}]


def test_rows_become_a_frame_where_pandas_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert Rows([{"a": 1}]).to_frame() == ("frame", [{"a": 1}])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PolyadicError, match=r"data frames need pandas: pip install 'polyadic\[frames\]'"):
        Rows([{"a": 1}]).to_frame()


def test_a_frame_of_pandas_has_a_column_for_each_key(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = planned().records().to_frame()
    assert {"name", "macs_before", "macs_after", "format", "rank", "reason", "supported"} <= set(frame.columns)
    assert list(frame["macs_after"]) == [300, 100]


def test_pages_need_no_torch_and_results_no_pages_until_they_are_shown() -> None:
    code = (
        "import sys, polyadic.schema; assert 'polyadic.reporting' not in sys.modules; "
        "import polyadic.reporting; assert not {'torch', 'jinja2', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
