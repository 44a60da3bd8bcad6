"""Charts as SVG: inside a page, and as files for papers. Nothing but text is needed, so no browser and no script."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from markupsafe import Markup

from polyadic.reporting.axis import Axis, linear_axis, log_axis, written
from polyadic.reporting.chart import BarChart, Chart, PanelChart, PointChart, StripChart
from polyadic.reporting.svg_curves import curve, panels
from polyadic.reporting.svg_parts import (
    CHARACTER,
    WIDTH,
    element,
    horizontal_axis,
    legend,
    line,
    mark,
    rectangle,
    shortened,
    text,
    vertical_axis,
)
from polyadic.reporting.writing import xml_safe
from polyadic.schema import Svg

_RIGHT = WIDTH - 22  # the last number of an axis reaches beyond its end
_NAMES = 30  # characters of a layer's name that are shown


def svg(chart: Chart) -> Markup:
    """A drawing to stand in a page, whose style sheet colours it. To be followed by the chart's table."""
    parts, height = _drawn(chart)
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=f"{chart.title}. {chart.caption} A table with the same numbers follows.",
        class_="plot",
    )


def svg_file(chart: Chart) -> bytes:
    """A drawing as a file of its own, with its colours, in units of pixels."""
    parts, height = _drawn(chart)
    style = files("polyadic.reporting").joinpath("templates/figure.css").read_text(encoding="utf-8")
    drawing = element(
        "svg",
        element("title", chart.title),
        element("style", Markup(style)),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        width=WIDTH,
        height=height,
    )
    return xml_safe(f'<?xml version="1.0" encoding="UTF-8"?>\n{drawing}\n')


def drawings(charts: Iterable[Chart]) -> dict[str, Svg]:
    """Charts as drawings that notebooks show, by name."""
    return {chart.name: Svg(svg_file(chart).decode()) for chart in charts}


def _drawn(chart: Chart) -> tuple[list[Markup], float]:
    match chart:
        case BarChart():
            return _bars(chart)
        case PanelChart():
            return panels(chart)
        case PointChart():
            return _points(chart)
        case StripChart():
            return _strip(chart)


def _bars(chart: BarChart) -> tuple[list[Markup], float]:
    entries = [(series.label, series.colour, None) for series in chart.series] if len(chart.series) > 1 else []
    parts, top = legend(entries, 14)
    top += 18 if chart.lines else 0  # the labels of lines stand above
    values = [value for series in chart.series for value in series.values if value is not None]
    values += [at.at for at in chart.lines]
    left = 14 + CHARACTER * max(len(shortened(name, _NAMES)) for name in chart.categories)
    axis = log_axis(values, left, _RIGHT) if chart.log else linear_axis(values, left, _RIGHT, from_zero=True)
    thick = 11.0 if len(chart.categories) <= 40 else 7.0
    group = thick * len(chart.series) + 6
    bottom = top + group * len(chart.categories)
    parts += horizontal_axis(axis, top, bottom, chart.label)
    origin = axis.place(axis.low if chart.log else 0.0)
    for row, name in enumerate(chart.categories):
        y = top + group * row
        parts.append(text(shortened(name, _NAMES), left - 6, y + group / 2 + 4, anchor="end"))
        for at, series in enumerate(chart.series):
            value = series.values[row]
            if value is not None:
                start, end = sorted((origin, axis.place(value)))
                bar = rectangle(start, y + 3 + thick * at, max(end - start, 0.5), thick, series.colour)
                parts.append(mark(f"{name}: {series.label} {written(value)}", bar))
    parts += _across(chart, axis, axis, (left, top, bottom))
    return parts, bottom + 44


def _points(chart: PointChart) -> tuple[list[Markup], float]:
    entries = [(series.label, series.colour, series.symbol) for series in chart.series if series.label]
    parts, top = legend(entries if len(entries) > 1 or chart.y_label is None else [], 14)
    top += 32 if chart.y_label else 18  # the label of the vertical axis above those of lines across
    left, bottom = (58.0 if chart.y_label else 22.0), top + chart.height - 44
    across = [at.at for at in chart.lines if at.axis == "x"]
    up = [at.at for at in chart.lines if at.axis == "y"]
    reached = [*across, *(value for series in chart.series for value in series.x)]
    x = log_axis(reached, left, _RIGHT) if chart.x_log else linear_axis(reached, left, _RIGHT, ticks=6)
    heights = [value for series in chart.series for value in series.y]
    if chart.y_label is None:
        y = Axis(min(heights) - 0.7, max(heights) + 0.7, bottom, top, ())
    else:
        y = log_axis(heights, bottom, top) if chart.y_log else linear_axis([*up, *heights], bottom, top)
        parts += vertical_axis(y, left, _RIGHT, chart.y_label)
    parts += horizontal_axis(x, top, bottom, chart.x_label)
    parts += _across(chart, x, y, (left, top, bottom))
    for series in chart.series:
        parts += curve(series, x, y)
    return parts, bottom + 44


def _across(chart: BarChart | PointChart, x: Axis, y: Axis, frame: tuple[float, float, float]) -> list[Markup]:
    """Reference lines with their labels; those of vertical ones stand above, and give way to each other."""
    left, top, bottom = frame
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for at, reference in enumerate(chart.lines):
        if reference.axis == "y":
            place = y.place(reference.at)
            beside, anchor = ((_RIGHT, "end"), (left + 6, "start"))[at % 2]  # two lines may lie on one another
            parts.append(line(left, place, _RIGHT, place, "reference"))
            parts.append(text(reference.label, beside, place - 5, anchor=anchor, class_="tick"))
            continue
        place, half = x.place(reference.at), CHARACTER * len(reference.label) / 2
        parts.append(mark(reference.label, line(place, top, place, bottom, "reference")))
        for middle in (place, *(edge for low, high in taken for edge in (high + half + 6, low - half - 6))):
            middle = min(max(middle, left + half), WIDTH - half)
            if all(middle + half < low or middle - half > high for low, high in taken):
                parts.append(text(reference.label, middle, top - 5, anchor="middle", class_="tick"))
                taken.append((middle - half, middle + half))
                break
    return parts


def _strip(chart: StripChart) -> tuple[list[Markup], float]:
    parts, top = legend([(label, colour, None) for label, colour in chart.legend], 14)
    top += 34
    left, bottom = 46.0, top + 120
    total = sum(block.width for block in chart.blocks)
    x = Axis(0.0, 100.0, left, _RIGHT, (0.0, 20.0, 40.0, 60.0, 80.0, 100.0))
    y = Axis(0.0, 100.0, bottom, top, (0.0, 50.0, 100.0))
    parts += [text(written(tick), left - 7, y.place(tick) + 4, anchor="end", class_="tick") for tick in y.ticks]
    parts.append(text(chart.y_label, 4, top - 22, class_="axis"))
    at = 0.0
    for block in chart.blocks:
        start, end = x.place(100.0 * at / total), x.place(100.0 * (at + block.width) / total)
        at += block.width
        parts.append(
            mark(
                block.text,
                rectangle(start, top, end - start, bottom - top, "outline"),
                rectangle(
                    start, y.place(100.0 * block.filled), end - start, (bottom - top) * block.filled, block.colour
                ),
            )
        )
        if CHARACTER * len(block.label) < end - start:
            parts.append(text(block.label, (start + end) / 2, top - 6, anchor="middle", class_="tick"))
    axis = [text(written(tick), x.place(tick), bottom + 16, anchor="middle", class_="tick") for tick in x.ticks]
    return [*parts, *axis, text(chart.x_label, (left + _RIGHT) / 2, bottom + 34, anchor="middle", class_="axis")], (
        bottom + 44
    )
