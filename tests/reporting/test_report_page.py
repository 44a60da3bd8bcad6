from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest
from folders import PROVENANCE, TRIALS, folder, whole
from summaries import LAYERS, summary

from disks import files_in, refuse_syncs
from polyadic.errors import StorageError
from polyadic.reporting import read_result, report, report_html, svg_file, write_figures
from polyadic.reporting.report import charts
from polyadic.schema import Choice, Plan

HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; {{ 7*7 }} ]]> \x00\x1b\ud800 --> </style> <img src=http://x.y/z>"


def parsed(page: str) -> ET.Element:
    """The tree that a browser makes of it; fails at the first parse error."""
    tree: ET.Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    return tree


def texts(tree: ET.Element, tag: str) -> list[str]:
    return ["".join(found.itertext()) for found in tree.iter(tag)]


def svg_of(tree: ET.Element) -> list[ET.Element]:
    return list(tree.iter("{http://www.w3.org/2000/svg}svg"))


@pytest.fixture
def page(tmp_path: Path) -> str:
    return report(folder(tmp_path)).read_text(encoding="utf-8")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder all of whose texts are hostile."""
    layers = tuple(replace(layer, name=f"{HOSTILE}{at}", reason=HOSTILE) for at, layer in enumerate(LAYERS))
    layers = (*layers, replace(LAYERS[0], name="other", format=HOSTILE))
    known: dict[str, Any] = dict.fromkeys((*PROVENANCE, HOSTILE), HOSTILE)
    said = summary(
        layers=layers,
        plan=Plan((Choice(HOSTILE, HOSTILE, (1,)),)),
        score_name=HOSTILE,
        seconds={HOSTILE: 1.0},
        warnings=(HOSTILE,),
        provenance={**known, "finetuning": PROVENANCE["finetuning"]},
    )
    trial = whole(1, 4000, 1.0)
    trial["plan"][0]["layer"] = f"{HOSTILE}0"
    return folder(tmp_path / "hostile", said, [*TRIALS, trial], model=HOSTILE)


def test_browsers_and_xml_parsers_find_nothing_wrong(page: str) -> None:
    assert parsed(page).find("head/title").text == "net.py:build, compressed"  # type: ignore[union-attr]
    assert ET.fromstring(page).tag == "html"


def assert_inert(page: str) -> None:
    """Nothing runs and nothing is fetched, whatever a browser makes of the page."""
    tree = parsed(page)
    ET.fromstring(page)
    for found in tree.iter():
        tag = str(found.tag).rpartition("}")[2]
        assert tag not in {"script", "iframe", "object", "embed", "img", "image", "use", "a", "base", "form", "audio"}
        for name, value in found.attrib.items():
            assert not str(name).startswith("on")
            assert str(name) not in {"src", "srcset", "style", "action"}
            assert str(name).rpartition("}")[2] != "href" or value == "data:,"
    styles = [style for found in tree.iter("style") for style in found.itertext()]
    assert not re.search(r"url\(|@import|expression", "".join(styles))


def test_the_page_fetches_and_runs_nothing(page: str) -> None:
    assert_inert(page)
    assert "http" not in page.replace("http-equiv", "")
    policy = next(meta for meta in parsed(page).iter("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.get("content") == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_hostile_texts_are_shown_as_they_are(hostile: Path) -> None:
    page = report(hostile).read_text(encoding="utf-8")
    assert_inert(page)
    shown = HOSTILE.translate({0: "\ufffd", 0x1B: "\ufffd", 0xD800: "\ufffd"})
    tree = parsed(page)
    assert texts(tree, "h1") == [f"{shown}, compressed"]
    assert f"{shown}0" in texts(tree, "th")
    assert "\x00" not in page
    assert "49" not in texts(tree, "h1")[0]


def test_hostile_texts_in_figures_are_inert(hostile: Path) -> None:
    for chart in charts(read_result(hostile)):
        root = ET.fromstring(svg_file(chart))
        assert {str(found.tag).rpartition("}")[2] for found in root.iter()} <= {
            *("svg", "title", "style", "text", "g", "line", "rect", "path", "circle", "polygon")
        }


def test_every_plot_is_followed_by_a_table_that_says_the_same(tmp_path: Path) -> None:
    read = read_result(folder(tmp_path))
    tree = parsed(report_html(read))
    figures = list(tree.iter("figure"))
    known = {chart.title: chart for chart in charts(read)}
    assert [texts(figure, "h3")[0] for figure in figures] == [
        "Drop on the test images",
        "The network, layer by layer",
        "Cost of each layer",
        "Error of each decomposition",
        "Sensitivity of each CP decomposition",
        "Cost and loss of whole plans",
        "History of the search",
        "Fine-tuning: score",
        "Fine-tuning: loss",
    ]
    for figure in figures:
        title = texts(figure, "h3")[0]
        (drawing,) = svg_of(figure)
        assert drawing.get("role") == "img"
        assert title in str(drawing.get("aria-label"))
        (table,) = figure.iter("table")
        assert texts(table, "caption") == [title]
        cells = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        assert cells == [list(known[title].table.columns), *map(list, known[title].table.rows)]
        assert len(cells) > 1


def test_layers_have_their_reasons_and_the_run_its_command(page: str) -> None:
    tree = parsed(page)
    cells = texts(tree, "td")
    for layer in LAYERS:
        assert any(str(layer.reason) in cell for cell in cells), layer
    assert texts(tree, "pre") == [PROVENANCE["command"]]
    assert "1 MAC = one multiply-accumulate." in texts(tree, "li")


def test_warnings_and_the_verdict_stand_before_the_first_plot(tmp_path: Path) -> None:
    page = report(folder(tmp_path, summary(warnings=("be careful",)))).read_text()
    header = next(parsed(page).iter("header"))
    assert "Warning: be careful" in texts(header, "p")
    assert any(text.startswith("Kept as measured: 0.50 points lost") for text in texts(header, "p"))


def test_a_result_with_nothing_to_plot_is_still_a_page(tmp_path: Path) -> None:
    bare = summary(
        layers=(), plan=Plan(), held_out={}, seconds={}, provenance={}, drop_interval=None, max_drop=None,
        compressed_score=float("nan"), score_before_finetuning=float("nan"),
    )  # fmt: skip
    page = report(folder(tmp_path, bare, trials=None, model=None)).read_text()
    tree = parsed(page)
    assert not svg_of(tree)
    assert texts(tree, "h1") == ["A network, compressed"]
    assert "The folder holds no log of a search, so its history is not shown." in texts(tree, "p")


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    path = folder(tmp_path)
    assert report(path).read_bytes() == report(path, tmp_path / "again.html").read_bytes()


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path)
    report(path).write_text("old")
    before = files_in(path)
    refuse_syncs(monkeypatch)
    with pytest.raises(StorageError, match="free disk space"):
        report(path)
    assert (path / "report.html").read_text() == "old"
    assert files_in(path) == before


def test_figures_are_all_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_result(folder(tmp_path / "run"))
    written = write_figures(read, tmp_path / "figures")
    assert {path.name for path in written} == files_in(tmp_path / "figures")
    assert "strip.svg" in {path.name for path in written}
    refuse_syncs(monkeypatch, after=3)
    with pytest.raises(StorageError):
        write_figures(read, tmp_path / "none")
    assert files_in(tmp_path / "none") == set()


def test_notebooks_show_a_piece_without_a_head() -> None:
    shown = summary()._repr_html_()
    assert "<html" not in shown
    tree = parsed(
        f"<!DOCTYPE html><html><head><title>n</title></head><body>{shown.partition('</style>')[2]}</body></html>"
    )
    assert len(svg_of(tree)) == 1
    assert any("1.71x fewer" in text for text in texts(tree, "b"))
