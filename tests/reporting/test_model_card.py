from __future__ import annotations

import json

import pytest
from summaries import summary

from polyadic.reporting import HEADLINE_COLUMNS, LAYER_COLUMNS, headline_rows, layer_rows, markdown, model_card

markdown_it = pytest.importorskip("markdown_it", reason="rich brings it; without it nobody reads the Markdown back")


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as a reader of GitHub's dialect sees them, row after row."""
    found: list[list[list[str]]] = []
    cell = False
    for token in markdown_it.MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            cell = True
        elif token.type == "inline" and cell:
            found[-1][-1].append(token.content)
            cell = False
    return found


def test_both_tables_are_read_back_as_they_were_meant() -> None:
    headline, layers = tables(model_card(summary(), "polyadic:resnet20"))
    assert headline == [list(HEADLINE_COLUMNS), *map(list, headline_rows(summary()))]
    assert layers == [list(LAYER_COLUMNS), *map(list, layer_rows(summary()))]


@pytest.mark.parametrize("cell", ["a | b", "a \\ b", "`|`", "", "*", "line\nbreak", "_x_", "a \\| b"])
def test_any_text_stays_in_its_cell(cell: str) -> None:
    ((heading, row, last),) = tables(markdown(("one", "two"), [(cell, "right"), ("next", "row")]))
    assert (len(heading), len(row), last) == (2, 2, ["next", "row"])
    assert row[1] == "right"


def test_warnings_stand_between_the_figures_and_how_to_load() -> None:
    said = ("the test set is too small", "it lost 3 points")
    text = model_card(summary(warnings=said), None)
    places = [text.index(f"**Warning:** {warning}.\n") for warning in said]
    assert text.index("| bytes in memory") < places[0] < places[1] < text.index("## Load")
    assert "Warning" not in model_card(summary(), None)
    html = markdown_it.MarkdownIt("commonmark").render(text)
    assert html.count("<p><strong>Warning:</strong>") == 2


@pytest.mark.parametrize(
    ("score", "words"), [(0.9, "0.50 points of top-1 accuracy lost"), (0.91, "0.50 points of top-1 accuracy gained")]
)
def test_the_first_sentence_says_what_happened(score: float, words: str) -> None:
    text = model_card(summary(compressed_score=score), "polyadic:resnet20")
    assert text.startswith("# polyadic:resnet20, compressed\n\n1.71x fewer multiply-accumulates by")
    assert f"{words} (1 were allowed)" in text


def test_the_provenance_is_json_without_the_epochs() -> None:
    text = model_card(summary(), None)
    block = text.split("```json\n")[1].split("```")[0]
    assert json.loads(block) == {"seed": 0, "macs_convention": "1 MAC = one multiply-accumulate"}
    assert text.count("```") % 2 == 0
    assert text.endswith("\n")


def test_how_to_load_depends_on_whether_the_network_has_a_name() -> None:
    assert 'polyadic.load(".")\n' in model_card(summary(), "polyadic:resnet20")
    assert 'polyadic.load(".", model=...)' in model_card(summary(), None)
