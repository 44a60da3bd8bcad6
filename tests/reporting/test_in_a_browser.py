"""Every kind of page in a real browser, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from browser import CHROMIUM, DESK, HEIGHT, PHONE, Seen, looked_at
from documents_by_hand import DOCUMENTS, search, written
from folders import TRIALS, folder
from PIL import Image

from polyadic.reporting import charts, compare, read_folder, report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser Chromium, which is not installed")

LONG = "a_module_whose_name_is_longer_than_any_phone_is_wide.with_blocks.0.and_layers.conv"
KINDS = ("result", "search", *DOCUMENTS, "comparison")
Look = Callable[[str], Seen]


def made(kind: str, path: Path) -> Path:
    """A page of that kind, of a network with long names."""
    if kind == "result":
        return report(folder(path, model=f"/a/path/{LONG}.py:build"))
    if kind == "comparison":
        return compare(folder(path / "first"), folder(path / "second"), path / "both.html")
    if kind == "search":
        folder(path, trials=TRIALS)
        (path / "result.json").unlink()
        return report(written(path, "search.json", search()))
    return report(written(path, kind, DOCUMENTS[kind](LONG)))


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """What the browser makes of a kind of page; it is started once for each."""

    @cache
    def seen(kind: str) -> Seen:
        path = tmp_path_factory.mktemp("seen")
        return looked_at(made(kind, path / "page"), path / "browser")

    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_on_the_console_and_nothing_is_asked_for(look: Look, kind: str) -> None:
    seen = look(kind)
    assert seen.console == []
    assert seen.requests == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_as_wide_as_the_screen(look: Look, kind: str, width: int) -> None:
    layout = look(kind).layouts[width]
    assert (layout["width"], layout["scroll"], layout["outside"]) == (width, width, [])
    assert layout["end"] < HEIGHT  # all of it is in the picture
    open_tables = [heading for heading in layout["headings"] if heading > 0]  # those of folded ones have no width
    assert min(open_tables, default=100) >= (100 if width == PHONE else 40)  # names are not broken letter by letter


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_every_plot_is_drawn(look: Look, kind: str, tmp_path: Path) -> None:
    seen = look(kind)
    expected = len(charts(read_folder(made(kind, tmp_path).parent)))
    with Image.open(seen.picture) as picture:
        for width, left in ((PHONE, 0), (DESK, PHONE)):
            plots = seen.layouts[width]["plots"]
            assert len(plots) == expected > 0
            for plot in plots:
                assert plot["width"] >= 300
                assert plot["drawn"] >= 50
                right = min(plot["left"] + plot["width"], width)
                box = (left + plot["left"], plot["top"], left + right, plot["top"] + plot["height"])
                colours = picture.crop(tuple(int(at) for at in box)).getcolors(1 << 24)
                assert colours is not None
                assert len(colours) > 10
                paper = max(count for count, _ in colours)
                assert 0.3 < paper / sum(count for count, _ in colours) < 0.995


def test_a_page_that_does_all_this_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><head><title>bad</title></head><body><main><p style='width:2000px'>wide</p>"
        "<svg class='plot'></svg><img src='http://127.0.0.1:9/x.png'/>"
        "<script>console.error('said')</script></main></body></html>"
    )
    seen = looked_at(page, tmp_path / "browser")
    assert any("said" in line for line in seen.console)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert seen.layouts[PHONE]["scroll"] > PHONE
    assert "P" in seen.layouts[DESK]["outside"]
    assert [plot["drawn"] for plot in seen.layouts[DESK]["plots"]] == [0]


def test_a_page_that_forbids_it_is_kept_from_asking_and_says_so(tmp_path: Path) -> None:
    page = made("search", tmp_path / "page")
    page.write_text(page.read_text().replace("<main>", "<main><img src='http://127.0.0.1:9/x.png'/>"))
    seen = looked_at(page, tmp_path / "browser")
    assert seen.requests == []
    assert any("Content Security Policy" in line for line in seen.console)
