from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from folders import PROVENANCE, folder
from summaries import LAYERS, summary
from test_report_page import assert_inert, parsed, texts

from polyadic.errors import StorageError
from polyadic.reporting import compare
from polyadic.schema import Cost


def table(page: str, caption: str) -> list[list[str]]:
    """The rows of a table, without its headings."""
    for found in parsed(page).iter("table"):
        if texts(found, "caption") == [caption]:
            return [["".join(cell.itertext()) for cell in row] for row in found.findall("tbody/tr")]
    return []


@pytest.fixture
def page(tmp_path: Path) -> str:
    """One run beside another that left conv1 dense, with another seed."""
    changed = (replace(LAYERS[0], status="dense", reason="no cheaper rank", format=None, rank=None, macs_after=9000),)
    other = summary(
        layers=(*changed, *LAYERS[1:]),
        compressed=Cost(700, 20_000, 2800),
        provenance={**PROVENANCE, "seed": 1, "formats": ["svd"]},
    )
    first, second = folder(tmp_path / "one"), folder(tmp_path / "<b>two", other)
    return compare(first, second, tmp_path / "page.html").read_text()


def test_headlines_stand_side_by_side(page: str) -> None:
    rows = {row[0]: row[1:] for row in table(page, "Headline")}
    assert rows["MACs after"] == ["14,000", "20,000"]
    assert rows["times fewer MACs"] == ["1.71", "1.20"]
    assert rows["drop"] == ["0.50 points", "0.50 points"]
    assert rows["95 % interval of the drop"] == ["-0.25 to 1.25"] * 2
    assert rows["layers factorised"] == ["2", "1"]


def test_only_layers_that_differ_are_listed(page: str) -> None:
    assert table(page, "Format, rank or cost") == [
        ["conv1", "cp-epc 8", "left dense: no cheaper rank", "3,000", "9,000"]
    ]


def test_only_settings_that_differ_are_listed(page: str) -> None:
    assert table(page, "Provenance") == [["seed", "0", "1"], ["formats", "", '["svd"]']]


def test_the_page_is_inert_and_well_formed(page: str) -> None:
    assert_inert(page)
    assert ET.fromstring(page).tag == "html"
    assert "A: one and B: <b>two, compared" in texts(parsed(page), "h1")


def test_equal_runs_do_not_differ(tmp_path: Path) -> None:
    page = compare(folder(tmp_path / "a"), folder(tmp_path / "b"), tmp_path / "page.html").read_text()
    assert "None: every layer has the same format, rank and cost." in texts(parsed(page), "p")
    assert not [text for text in texts(parsed(page), "p") if text.startswith("Warning")]


def test_other_networks_and_other_data_are_warned_of(tmp_path: Path) -> None:
    other = summary(layers=LAYERS[:2], dense=Cost(1, 2, 3), score_name="F1", provenance={"samples_digest": "12"})
    page = compare(folder(tmp_path / "a"), folder(tmp_path / "b", other), tmp_path / "page.html").read_text()
    said = texts(parsed(page), "p")
    assert "Warning: The two runs began with different networks: compare their drops and ratios with care." in said
    assert "Warning: The two runs were scored on different data." in said
    assert any("have different scores, top-1 accuracy, % and F1, %: do not compare" in line for line in said)
    assert ["conv3", "left dense: every cheaper rank loses more than 1 points", "not in this network", "7,000", ""] in (
        table(page, "Format, rank or cost")
    )


def test_each_folder_has_to_hold_a_result(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        compare(folder(tmp_path / "a"), tmp_path / "nowhere", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
