from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from folders import PROVENANCE, folder, whole
from hypothesis import given
from hypothesis import strategies as st
from summaries import LAYERS, summary

from polyadic.reporting import plotly_figure, plotly_figures, read_result, svg_file
from polyadic.reporting.chart import BarChart, Bars, Table
from polyadic.reporting.layer_charts import costs, layer_charts, strip
from polyadic.reporting.report import charts
from polyadic.reporting.run_charts import drop_chart, finetuning_charts, search_charts
from polyadic.reporting.svg_parts import linear_axis, log_axis, number_label

SVG = "{http://www.w3.org/2000/svg}"


def drawn(content: bytes, tag: str, style: str) -> list[dict[str, float]]:
    """Sizes of all elements of a class."""
    found = [item for item in ET.fromstring(content).iter(SVG + tag) if item.get("class") == style]
    return [{key: float(value) for key, value in item.attrib.items() if key != "class"} for item in found]


def test_the_filled_area_of_the_strip_is_what_is_left_of_the_macs() -> None:
    chart = strip(LAYERS, 24_000)
    assert chart is not None
    content = svg_file(chart)
    area = {
        style: sum(r["width"] * r["height"] for r in drawn(content, "rect", style))
        for style in ("outline", "c0", "c1", "dense")
    }
    swatch = 12 * 12  # in the legend
    left = area["c0"] + area["c1"] + area["dense"] - 3 * swatch
    assert left / area["outline"] == pytest.approx(14_000 / 24_000, abs=2e-3)
    outlines = drawn(content, "rect", "outline")
    assert outlines[0]["width"] / outlines[1]["width"] == pytest.approx(9 / 8, abs=1e-3)
    assert "Layers without MACs are not drawn: 1." in chart.caption


def test_bars_are_as_long_as_their_values() -> None:
    chart = costs(summary())
    assert chart is not None
    before, after = (
        drawn(svg_file(chart), "rect", style)[1:] for style in ("dense", "c0")
    )  # the first is the legend's
    assert [bar["width"] / before[0]["width"] for bar in (*before, *after)] == pytest.approx(
        [1, 8 / 9, 7 / 9, 3 / 9, 4 / 9, 7 / 9], abs=1e-3
    )


def test_bars_on_a_logarithmic_axis_and_missing_ones() -> None:
    bars = Bars("s", "c3", (10.0, 1000.0, None, 100.0))
    chart = BarChart("n", "t", "c", Table((), ()), "l", ("a", "b", "c", "d"), (bars,), log=True)
    widths = [bar["width"] for bar in drawn(svg_file(chart), "rect", "c3")]
    assert len(widths) == 3
    assert widths[1] == pytest.approx(2 * widths[2], rel=1e-2)
    assert widths[0] == 0.5  # at the foot of the axis, and still to be seen


def test_files_say_their_own_colours_and_size(tmp_path: Path) -> None:
    for chart in charts(read_result(folder(tmp_path))):
        content = svg_file(chart)
        root = ET.fromstring(content)
        assert root.get("viewBox") == f"0 0 {float(root.attrib['width']):.0f} {float(root.attrib['height']):.0f}"
        assert b"var(" not in content
        used = {style for item in root.iter() for style in item.get("class", "").split()} - {"label"}
        declared = set(re.findall(r"\.([\w]+)", root.findtext(f"{SVG}style") or ""))
        assert used <= declared


def test_nothing_is_drawn_outside_the_drawing(tmp_path: Path) -> None:
    for chart in charts(read_result(folder(tmp_path))):
        root = ET.fromstring(svg_file(chart))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for item in root.iter():
            x, y = float(item.get("x", 0)), float(item.get("y", 0))
            assert 0 <= x <= width, chart.name
            assert 0 <= y <= height, chart.name
            assert x + float(item.get("width", 0)) <= width or item is root


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=5), st.booleans())
def test_a_linear_axis_holds_all_values_between_round_numbers(values: list[float], from_zero: bool) -> None:
    axis = linear_axis(values, 0.0, 100.0, from_zero=from_zero)
    margin = 1e-6
    assert all(-margin <= axis.place(value) <= 100 + margin for value in values)
    assert 2 <= len(axis.ticks) <= 13
    if from_zero:
        assert axis.low <= 0 <= axis.high


def test_axes_take_the_largest_and_smallest_numbers() -> None:
    for axis in (linear_axis([-1.7e308, 1.7e308], 0.0, 100.0), log_axis([5e-324, 1.7e308], 0.0, 100.0)):
        assert all(math.isfinite(axis.place(value)) for value in (1.0, 1.7e308))


def test_epochs_are_counted_in_whole_numbers() -> None:
    assert linear_axis([1.0, 4.0], 0.0, 100.0).ticks == (1, 2, 3, 4)
    assert linear_axis([1.5, 4.0], 0.0, 100.0).ticks[:2] == (1.5, 2)


@given(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=5))
def test_a_logarithmic_axis_holds_all_values_between_decades(values: list[float]) -> None:
    axis = log_axis(values, 0.0, 100.0)
    assert all(-1e-6 <= axis.place(value) <= 100 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 10


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (0.25, "0.25"), (1500, "1.5k"), (2e6, "2M"), (-3e9, "-3G"), (1e-15, "0"), (1e13, "10T")],
)
def test_numbers_on_axes(value: float, words: str) -> None:
    assert number_label(value) == words


def test_a_diverged_epoch_is_left_out_of_the_curve_and_named() -> None:
    score, loss = finetuning_charts(summary(provenance=PROVENANCE, held_out={"dense": 0.91}))
    assert score.name == "finetuning"
    assert score.series[0].y == pytest.approx((70.0, 80.0))  # type: ignore[union-attr]
    assert "1 epoch has no score: training diverged" in score.caption
    assert loss.series[0].y == (2.5, 1.5)  # type: ignore[union-attr]
    assert [row[4] for row in score.table.rows] == ["", "yes", ""]


def test_the_interval_and_the_allowed_drop_are_drawn() -> None:
    chart = drop_chart([("compressed", summary())])
    assert chart is not None
    assert chart.series[0].x == (-0.25, 1.25)
    assert [line.at for line in chart.lines] == [1.0, 0.0]
    assert drop_chart([("broken", summary(compressed_score=float("nan")))]) is None


def test_a_front_of_one_plan_is_not_drawn(tmp_path: Path) -> None:
    read = read_result(folder(tmp_path, trials=[whole(1, 4000, 1.0)]))
    assert [chart.name for chart in search_charts(read)] == ["search"]


def test_the_front_shows_the_budget_and_the_plan_that_was_carried_out(tmp_path: Path) -> None:
    known = summary(provenance={**PROVENANCE, "budget": "macs <= 15,000, params <= 900"})
    front = next(chart for chart in search_charts(read_result(folder(tmp_path, known))) if chart.name == "front")
    assert [(line.label, line.at) for line in front.lines] == [("budget", 15_000), ("dense", 24_000)]
    by_label = {points.label: list(zip(points.x, points.y, strict=True)) for points in front.series}
    assert by_label == {
        "plans": [(13_000, 9.5)],
        "front: no other is cheaper and better": [(11_000, 9.0), (14_000, 3.0)],
        "the plan that was carried out": [(14_000, 3.0)],
    }


def test_a_plan_that_is_none_of_the_trials_is_shown_by_its_macs(tmp_path: Path) -> None:
    trials = [whole(1, 4000, 9.0, (2, 2), loss=0.5), whole(2, 6000, 3.0, (4, 2), loss=0.001)]
    front = search_charts(read_result(folder(tmp_path, trials=trials)))[1]
    assert ("carried out", 14_000) in [(line.label, line.at) for line in front.lines]
    assert "carried out is none of them" in front.caption
    content = svg_file(front)
    across = [line["y1"] for line in drawn(content, "line", "grid") if line["y1"] == line["y2"]]
    top, bottom = min(across), max(across)  # 1 and 0.001
    middles = [mark["y"] + mark["height"] / 2 for mark in drawn(content, "rect", "c1")]
    shares = [(bottom - middle) / (bottom - top) for middle in middles]
    assert shares == pytest.approx([math.log10(500) / 3, 0], abs=1e-3)


def test_layers_that_were_not_decomposed_have_no_error() -> None:
    dense = tuple(replace(layer, relative_error=None, sensitivity=None) for layer in LAYERS)
    assert [chart.name for chart in layer_charts(summary(layers=dense))] == ["strip", "cost"]


def test_plotly_draws_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra plots")
    read = read_result(folder(tmp_path))
    figures = plotly_figures(read)
    assert list(figures) == [chart.name for chart in charts(read)]
    before, after = figures["cost"].data
    assert list(before.x) == [9000, 8000, 7000]
    assert list(after.x) == [3000, 4000, 7000]
    assert sum(bar.width[0] * bar.y[0] for bar in figures["strip"].data) == pytest.approx(1e4 * 14 / 24)
    assert figures["sensitivity"].layout.xaxis.type == "log"
    assert all(figure.to_dict() for figure in figures.values())


def test_plotly_takes_no_tag_from_a_name() -> None:
    pytest.importorskip("plotly", reason="the extra plots")
    chart = costs(summary(layers=(replace(LAYERS[0], name="<a href='x'>b</a>"),)))
    assert chart is not None
    assert "<" not in plotly_figure(chart).data[0].y[0]
