"""Charts as SVG: inside a page, and as files for papers. Nothing but text is needed, so no browser and no script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup

from polyadic.reporting.chart import BarChart, Chart, PanelChart, PointChart, Points, StripChart
from polyadic.reporting.svg_parts import (
    CHARACTER,
    WIDTH,
    Axis,
    element,
    horizontal_axis,
    legend,
    line,
    linear_axis,
    log_axis,
    mark,
    number_label,
    rectangle,
    shorten,
    symbol,
    text,
    ticks_across,
    ticks_up,
    value_axis,
    vertical_axis,
    xml_safe,
)

_RIGHT = WIDTH - 22  # the last number of an axis reaches beyond its end
_NAMES = 30  # characters of a layer's name that are shown
_COLUMNS = 3
_HEIGHT = 112.0  # of a panel's frame
_PANELS_LEFT, _PANELS_RIGHT = 46.0, WIDTH - 14
_GAP = 22.0  # between panels
_ABOVE, _BELOW = 20.0, 24.0  # a panel's title, its numbers


def svg(chart: Chart) -> Markup:
    """A drawing to stand in a page, whose style sheet colours it. To be followed by the chart's table."""
    parts, height = _draw(chart)
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
    parts, height = _draw(chart)
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


def _draw(chart: Chart) -> tuple[list[Markup], float]:
    match chart:
        case BarChart():
            return _bars(chart)
        case PanelChart():
            return _panels(chart)
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
    left = 14 + CHARACTER * max(len(shorten(name, _NAMES)) for name in chart.categories)
    axis = log_axis(values, left, _RIGHT) if chart.log else linear_axis(values, left, _RIGHT, from_zero=True)
    thick = 11.0 if len(chart.categories) <= 40 else 7.0
    group = thick * len(chart.series) + 6
    bottom = top + group * len(chart.categories)
    parts += horizontal_axis(axis, top, bottom, chart.label)
    origin = axis.place(axis.low if chart.log else 0.0)
    for row, name in enumerate(chart.categories):
        y = top + group * row
        parts.append(text(shorten(name, _NAMES), left - 6, y + group / 2 + 4, anchor="end"))
        for at, series in enumerate(chart.series):
            value = series.values[row]
            if value is not None:
                start, end = sorted((origin, axis.place(value)))
                bar = rectangle(start, y + 3 + thick * at, max(end - start, 0.5), thick, series.colour)
                parts.append(mark(f"{name}: {series.label} {number_label(value)}", bar))
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
        parts += _curve(series, x, y)
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
    total = sum(part.width for part in chart.parts)
    x = Axis(0.0, 100.0, left, _RIGHT, (0.0, 20.0, 40.0, 60.0, 80.0, 100.0))
    y = Axis(0.0, 100.0, bottom, top, (0.0, 50.0, 100.0))
    parts += [text(number_label(tick), left - 7, y.place(tick) + 4, anchor="end", class_="tick") for tick in y.ticks]
    parts.append(text(chart.y_label, 4, top - 22, class_="axis"))
    at = 0.0
    for part in chart.parts:
        start, end = x.place(100.0 * at / total), x.place(100.0 * (at + part.width) / total)
        at += part.width
        parts.append(
            mark(
                part.text,
                rectangle(start, top, end - start, bottom - top, "outline"),
                rectangle(start, y.place(100.0 * part.filled), end - start, (bottom - top) * part.filled, part.colour),
            )
        )
        if CHARACTER * len(part.label) < end - start:
            parts.append(text(part.label, (start + end) / 2, top - 6, anchor="middle", class_="tick"))
    axis = [text(number_label(tick), x.place(tick), bottom + 16, anchor="middle", class_="tick") for tick in x.ticks]
    return [*parts, *axis, text(chart.x_label, (left + _RIGHT) / 2, bottom + 34, anchor="middle", class_="axis")], (
        bottom + 44
    )


def _curve(series: Points, x: Axis, y: Axis, size: float = 4.0) -> list[Markup]:
    """The line through the points of a series, and its marks unless it has no label."""
    places = [(x.place(a), y.place(b)) for a, b in zip(series.x, series.y, strict=True)]
    parts = []
    if series.kind != "points":
        parts.append(element("path", d=_path(places, step=series.kind == "step"), class_=f"curve {series.colour}"))
    if series.label:
        parts += [
            mark(said, symbol(series.symbol, *place, series.colour, size))
            for place, said in zip(places, series.texts, strict=True)
        ]
    return parts


def _panels(chart: PanelChart) -> tuple[list[Markup], float]:
    """All panels, row by row, under one legend; and how high they are."""
    entries = {s.label: (s.label, s.colour, s.symbol) for panel in chart.panels for s in panel.series if s.label}
    parts, top = legend(list(entries.values()), 14)
    dashed = "".join(f"; dashed: {reference.label}" for reference in chart.lines)
    parts.append(text(f"vertical: {chart.y_label}{dashed}", 4, top + 6, class_="axis"))
    parts.append(text(f"horizontal: {chart.x_label}", 4, top + 23, class_="axis"))
    top += 36
    columns = min(_COLUMNS, len(chart.panels))
    width = (
        (_PANELS_RIGHT - _PANELS_LEFT - _GAP * (_COLUMNS - 1)) / _COLUMNS
        if columns > 1
        else (_PANELS_RIGHT - _PANELS_LEFT) * 0.6
    )
    heights = [v for panel in chart.panels for s in panel.series for v in s.y] + [at.at for at in chart.lines]
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, columns)
        left = _PANELS_LEFT + column * (width + _GAP)
        high = top + row * (_ABOVE + _HEIGHT + _BELOW) + _ABOVE
        low = high + _HEIGHT
        y = log_axis(heights, low, high, most=4) if chart.y_log else linear_axis(heights, low, high, ticks=4)
        x = _panel_axis(chart, [panel] if chart.own_x else list(chart.panels), left, left + width)
        parts.append(text(shorten(panel.title, int(width / CHARACTER)), left, high - 7))
        parts += ticks_up(y, left, left + width, numbers=column == 0)
        parts += ticks_across(x, high, low)
        for reference in chart.lines:
            place = y.place(reference.at)
            parts.append(mark(reference.label, line(left, place, left + width, place, "reference")))
        for series in panel.series:
            parts += _curve(series, x, y, 2.8)
    rows = -(-len(chart.panels) // columns)
    return parts, top + rows * (_ABOVE + _HEIGHT + _BELOW) + 4


def _panel_axis(chart: PanelChart, shown: Sequence[object], left: float, right: float) -> Axis:
    values = [v for panel in chart.panels if panel in shown for series in panel.series for v in series.x]
    if chart.own_x:
        return value_axis(values, left, right)
    return linear_axis(values, left, right, ticks=4)


def _path(places: Sequence[tuple[float, float]], *, step: bool) -> str:
    """Through all places; in steps first across, then up or down."""
    said = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
    for at_x, at_y in places[1:]:
        said.append(f"H{at_x:.1f}V{at_y:.1f}" if step else f"L{at_x:.1f} {at_y:.1f}")
    return "".join(said)
