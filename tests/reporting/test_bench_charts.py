from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest

from polyadic.benchmarking import BenchNetwork, BenchResult, BenchRow, write_bench
from polyadic.engines import Conditions
from polyadic.errors import StorageError
from polyadic.reporting import (
    bench_charts,
    bench_figures,
    bench_notes,
    bench_page,
    bench_rows,
    plotly_figure,
    read_bench,
)

HOSTILE = "<script>alert(1)</script>\"' &amp; {{ 7*7 }} \x00"


def row(network: str, engine: str, median: float, speed_up: float | None, batch: int = 1) -> BenchRow:
    share = None if network == "dense" or speed_up is None else speed_up / 4.0
    return BenchRow(
        network, engine, "NCHW", Conditions(batch), None, median, median - 0.5, median + 0.5, (median,), speed_up,
        speed_up, speed_up, share, 1e-6, 2_000_000, 3_000_000, 500_000, ready_s=12.5,
    )  # fmt: skip


@pytest.fixture
def result() -> BenchResult:
    """The compressed network is twice as fast on one engine, slower on another, and does not run on a third."""
    return BenchResult(
        (BenchNetwork("dense", 1000, 8000, 1.0), BenchNetwork("compressed", 300, 2000, 4.0)),
        (
            row("dense", "pytorch", 8.0, 1.0, 8),
            row("compressed", "pytorch", 4.0, 2.0, 8),
            row("dense", "openvino", 3.0, 1.0),
            row("compressed", "openvino", 6.0, 0.5),
            row("dense", "onnxruntime", 3.0, 1.0),
            BenchRow("compressed", "onnxruntime", "its own", Conditions(1), "it was refused"),
        ),
        (("tensorrt", "pip install it"),),
        (3, 8, 8),
        {"rounds": 3},
        {"processor": "a processor", "threads": 1},
    )


def test_bars_end_at_the_speed_up_and_a_line_stands_at_the_reduction(result: BenchResult) -> None:
    speed, times = bench_charts(result)
    assert speed.categories == ("pytorch, batch 8", "openvino, batch 1")  # type: ignore[union-attr]
    assert [bars.values for bars in speed.series] == [(2.0, 0.5)]  # type: ignore[union-attr]
    assert [line.at for line in speed.lines] == [4.0, 1.0]  # type: ignore[union-attr]
    assert [bars.values for bars in times.series] == [(1.0, 3.0, 3.0), (0.5, 6.0, None)]  # type: ignore[union-attr]


def test_drawings_show_the_line_with_its_label(result: BenchResult) -> None:
    figures = dict(bench_figures(result))
    assert set(figures) == {"speed-up.svg", "milliseconds.svg"}
    drawn = ET.fromstring(figures["speed-up.svg"])
    lines = [found for found in drawn.iter() if found.get("class") == "reference"]
    assert len(lines) == 2
    bars = [float(found.get("width", 0)) for found in drawn.iter() if found.get("class") == "c0"]
    assert bars[0] == pytest.approx(4 * bars[1], abs=0.1)
    said = " ".join(drawn.itertext())
    assert "compressed: 4.00x fewer MACs" in said
    origin = next(float(found.get("x", 0)) for found in drawn.iter() if found.get("class") == "c0")
    assert float(lines[0].get("x1", 0)) - origin == pytest.approx(2 * bars[0], abs=0.1)
    pytest.importorskip("plotly")
    assert len(plotly_figure(bench_charts(result)[0]).layout.shapes) == 2


def test_a_network_alone_has_times_and_no_speed_up(result: BenchResult) -> None:
    alone = replace(result, networks=result.networks[:1], rows=result.rows[:1])
    assert [chart.name for chart in bench_charts(alone)] == ["milliseconds"]
    assert bench_charts(replace(alone, rows=())) == []


def test_rows_and_notes_say_what_was_not_measured(result: BenchResult) -> None:
    rows = bench_rows(result)
    times = ("4.000", "3.500 to 4.500", "2.00x", "2.00 to 2.00", "0.50")
    assert rows[1][5:13] == (*times, "12.50", "3.0", "3.5")
    assert rows[0][7:10] == ("", "", "")
    assert rows[-1][5] == "not timed"
    assert len({len(cells) for cells in rows}) == 1
    notes = bench_notes(result)
    assert "compressed was not timed on onnxruntime, batch 1, 1 thread, float32: it was refused" in notes
    assert "tensorrt was left out: pip install it" in notes


def test_the_file_is_read_as_it_was_written(result: BenchResult, tmp_path: Path) -> None:
    write_bench(result, tmp_path)
    assert read_bench(tmp_path) == result
    for text, words in (
        ("[]", "JSON object"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1, "networks": [], "rows": []}', "there are none"),
    ):
        (tmp_path / "bench.json").write_text(text)
        with pytest.raises(StorageError, match=words):
            read_bench(tmp_path)


def test_hostile_names_are_shown_as_text(result: BenchResult) -> None:
    networks = (result.networks[0], replace(result.networks[1], name=HOSTILE))
    rows = tuple(replace(row, network=HOSTILE) if row.network == "compressed" else row for row in result.rows)
    page = bench_page(replace(result, networks=networks, rows=rows, settings={HOSTILE: HOSTILE})).decode()
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    ET.fromstring(page)
    assert not list(tree.iter("script"))
    assert "{{ 7*7 }}" in page
