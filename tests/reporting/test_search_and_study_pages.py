"""Pages of searches and studies: what they show, and that no text of the user can do anything in them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from documents_by_hand import DOCUMENTS, degeneracy, layers, search, tried, truncation, written
from folders import TRIALS, folder
from test_report_page import HOSTILE, assert_inert, parsed, svg_of, texts

from polyadic.errors import PolyadicError, StorageError
from polyadic.reporting import charts, plotly_figures, read_folder, report, svg_file, write_figures
from polyadic.reporting.chart import PanelChart

FIGURES = {
    "search.json": ["The plan, layer by layer", "Cost and loss of whole plans", "History of the search"],
    "truncation.json": [
        "Norm lost against the rank that is kept",
        "Accuracy against the norm lost, all layers together",
        "Accuracy against the norm lost, one layer at a time",
        "Accuracy by depth, one layer at a time",
        "Which half bears more",
        "What training gives back",
    ],
    "degeneracy.json": [
        "Error against the rank",
        "Largest over smallest intensity",
        "Sum of squared intensities",
        "Sensitivity",
    ],
    "layers.json": [
        "Error against the rank",
        "Accuracy against the rank",
        "Error over the cost",
        "Accuracy over the cost",
        "Accuracy over the cost, after fine-tuning",
        "Accuracy over the sensitivity",
    ],
}


def made(path: Path, kind: str, document: dict[str, Any] | None = None) -> Path:
    """A folder of that kind; a search has its log beside it."""
    if kind == "search.json":
        folder(path, trials=TRIALS)
        (path / "result.json").unlink()
        return written(path, kind, document or search())
    return written(path, kind, document or DOCUMENTS[kind]())


@pytest.mark.parametrize("kind", FIGURES)
def test_every_plot_is_followed_by_a_table_and_the_page_is_sound(tmp_path: Path, kind: str) -> None:
    page = report(made(tmp_path, kind)).read_text(encoding="utf-8")
    assert_inert(page)
    figures = list(parsed(page).iter("figure"))
    assert [texts(figure, "h3")[0] for figure in figures] == FIGURES[kind]
    for figure in figures:
        (drawing,) = svg_of(figure)
        assert drawing.get("role") == "img"
        (table,) = figure.iter("table")
        widths = {len(list(row)) for row in table.iter("tr")}
        assert len(widths) == 1
        assert len(list(table.iter("tr"))) > 1


@pytest.mark.parametrize("kind", FIGURES)
def test_hostile_names_are_shown_as_they_are(tmp_path: Path, kind: str) -> None:
    document = {"search.json": search, **DOCUMENTS}[kind](HOSTILE)
    document["provenance"] = {**document["provenance"], "model": HOSTILE, "command": HOSTILE, HOSTILE: HOSTILE}
    path = made(tmp_path, kind, document)
    page = report(path).read_text(encoding="utf-8")
    assert_inert(page)
    shown = HOSTILE.translate({0: "\ufffd", 0x1B: "\ufffd", 0xD800: "\ufffd"})
    assert texts(parsed(page), "h1")[0].startswith(shown)
    for chart in charts(read_folder(path)):
        root = ET.fromstring(svg_file(chart))
        assert {str(found.tag).rpartition("}")[2] for found in root.iter()} <= {
            *("svg", "title", "style", "text", "g", "line", "rect", "path", "circle", "polygon")
        }


@pytest.mark.parametrize("kind", FIGURES)
def test_another_version_and_missing_parts_are_named(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind)
    whole = json.loads((path / kind).read_text())
    (path / kind).write_text(json.dumps({**whole, "version": 2}))
    with pytest.raises(StorageError, match=rf"{kind} has version 2; this release reads version 1"):
        report(path)
    part = "plan" if kind == "search.json" else "rows"
    (path / kind).write_text(json.dumps({key: value for key, value in whole.items() if key != part}))
    with pytest.raises(StorageError, match=rf"{kind} is damaged at {part} \(Field required\): copy it again, or "):
        report(path)
    (path / kind).write_text("{")
    with pytest.raises(StorageError, match=rf"{kind} is no JSON"):
        report(path)
    assert not (path / "report.html").exists()


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    document = degeneracy()
    document["rows"][3]["rank"] = "many"
    with pytest.raises(StorageError, match=r"degeneracy.json is damaged at rows.3.rank"):
        report(written(tmp_path, "degeneracy.json", document))


def test_what_is_there_of_an_unfinished_study_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(StorageError, match="holds rows of a study that did not end: finish it with polyadic analyze"):
        report(tmp_path)
    for kind in ("layers.json", "degeneracy.json"):
        written(tmp_path, kind, DOCUMENTS[kind]())
    with pytest.raises(PolyadicError, match=r"a page shows one study; .* degeneracy\.json, layers\.json"):
        report(tmp_path)


def test_a_search_says_what_becomes_of_each_layer_and_why(tmp_path: Path) -> None:
    tree = parsed(report(made(tmp_path, "search.json")).read_text())
    table = next(found for found in tree.iter("table") if "The plan by layer" in texts(found, "caption")[0])
    rows = {row[0].text: ["".join(cell.itertext()) for cell in row][1:] for row in table.iter("tr")}
    assert rows["conv1"] == ["cp-epc 8", "9,000", "3,000", "alone it loses 0.25 points, 0.5 allowed; 2 trials of this "
                             "layer alone"]  # fmt: skip
    assert rows["conv2"][-1] == "chosen by the frontier search of whole plans"
    assert rows["conv3"] == ["stays dense", "7,000", "7,000", "conv: the search left it so"]
    assert rows["conv4"][0] == "not supported"
    assert any("frontier, 5 trials; the search had nothing left to try." in text for text in texts(tree, "p"))
    assert any(text.startswith("Within the budget: macs <= 15,000") for text in texts(tree, "p"))
    assert texts(tree, "pre") == ["polyadic analyze ... --out 'my folder'"]


def test_a_plan_over_budget_is_said_and_a_drop_stays_open(tmp_path: Path) -> None:
    over = search(plan=tried(16_000, 3.0, 8, 4), max_drop=0.5)
    said = texts(parsed(report(made(tmp_path, "search.json", over)).read_text()), "p")
    assert any(text.startswith("Over budget in macs") for text in said)
    assert any(text.startswith("Open: 0.5 points may be lost after fine-tuning.") for text in said)


def test_a_search_without_a_log_still_shows_its_front(tmp_path: Path) -> None:
    tree = parsed(report(written(tmp_path, "search.json", search())).read_text())
    assert any("no log of the trials" in text for text in texts(tree, "p"))
    assert any("11,000" in text for text in texts(tree, "th"))


def test_a_result_goes_before_its_search(tmp_path: Path) -> None:
    written(folder(tmp_path), "search.json", search())
    assert "compressed" in texts(parsed(report(tmp_path).read_text()), "h1")[0]


def test_degeneracy_says_how_many_layers_and_what_is_infinite(tmp_path: Path) -> None:
    page = report(written(tmp_path, "degeneracy.json", degeneracy())).read_text()
    tree = parsed(page)
    assert texts(tree, "b")[:3] == ["2", "2 of 2 layers", "0 of 2 layers"]
    captions = texts(tree, "figcaption")
    assert captions[1].endswith("Infinite, and so not drawn: 1 of 12.")
    assert "infinite" in texts(tree, "td")
    assert "layer: degenerate at rank 4 under ALS; not degenerate under stable CP" in texts(tree, "td")
    assert "layer3: layer: a matrix" in texts(tree, "li")


def test_a_truncation_study_shows_controls_beside_and_dense_levels(tmp_path: Path) -> None:
    by_name = {chart.name: chart for chart in charts(read_folder(written(tmp_path, "truncation.json", truncation())))}
    norm, accuracy = by_name["norm"], by_name["accuracy"]
    assert isinstance(norm, PanelChart)
    assert isinstance(accuracy, PanelChart)
    assert [panel.title for panel in norm.panels] == ["o|ihw", "i|ohw", "o+i"]
    assert [len(panel.series) for panel in norm.panels] == [3, 3, 2]  # a chain has no random spectrum
    assert norm.panels[0].series[0].y == (0.75, 0.77, 0.5, 0.52, 0.25, 0.27)
    assert [series.label for series in accuracy.panels[0].series] == [
        "as truncated",
        "random error of that length",
        "truncated, new batch-norm statistics",
        "random error, new batch-norm statistics",
    ]
    assert accuracy.panels[0].series[0].x == pytest.approx((0.29, 0.54, 0.79))
    assert [line.at for line in accuracy.lines] == [90.0, 89.0]
    assert [line.at for line in by_name["depth"].lines] == [89.0]  # type: ignore[union-attr]


def test_studies_without_batch_norm_joint_rows_or_tuning_have_fewer_plots(tmp_path: Path) -> None:
    rows = [{**row, "accuracy_recalibrated": None} for row in truncation()["rows"] if row["kind"] == "single"]
    path = written(tmp_path / "t", "truncation.json", truncation(rows=rows, retrained=[]))
    made_of = {chart.name: chart for chart in charts(read_folder(path))}
    assert list(made_of) == ["norm", "accuracy-layers", "depth"]
    assert [line.label for line in made_of["depth"].lines] == ["dense"]  # type: ignore[union-attr]
    rows = [{**row, "accuracy_tuned": None, "sensitivity": None} for row in layers()["rows"]]
    path = written(tmp_path / "l", "layers.json", layers(rows=rows))
    assert [chart.name for chart in charts(read_folder(path))][-1] == "accuracy-macs"
    report(path)


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_and_plotly_have_them_all(tmp_path: Path, kind: str) -> None:
    read = read_folder(made(tmp_path, kind))
    names = [chart.name for chart in charts(read)]
    assert [path.stem for path in write_figures(read, tmp_path / "figures")] == names
    assert list(plotly_figures(read)) == names


def test_nothing_is_drawn_outside_panels(tmp_path: Path) -> None:
    for chart in charts(read_folder(written(tmp_path, "degeneracy.json", degeneracy()))):
        root = ET.fromstring(svg_file(chart))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
            assert 0 < float(circle.attrib["cx"]) < width
            assert 0 < float(circle.attrib["cy"]) < height
