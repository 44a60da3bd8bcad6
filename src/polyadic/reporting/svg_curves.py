"""Points and curves over two axes, as parts of drawings."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from polyadic.reporting.axis import Axis, linear_axis, log_axis, value_axis
from polyadic.reporting.chart import PanelChart, Points
from polyadic.reporting.svg_parts import (
    CHARACTER,
    WIDTH,
    element,
    legend,
    line,
    mark,
    shortened,
    symbol,
    text,
    ticks_across,
    ticks_up,
)

_COLUMNS = 3
_HEIGHT = 112.0  # of a panel's frame
_LEFT, _RIGHT = 46.0, WIDTH - 14
_GAP = 22.0  # between panels
_ABOVE, _BELOW = 20.0, 24.0  # a panel's title, its numbers


def curve(series: Points, x: Axis, y: Axis, size: float = 4.0) -> list[Markup]:
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


def panels(chart: PanelChart) -> tuple[list[Markup], float]:
    """All panels, row by row, under one legend; and how high they are."""
    entries = {s.label: (s.label, s.colour, s.symbol) for panel in chart.panels for s in panel.series if s.label}
    parts, top = legend(list(entries.values()), 14)
    dashed = "".join(f"; dashed: {reference.label}" for reference in chart.lines)
    parts.append(text(f"vertical: {chart.y_label}{dashed}", 4, top + 6, class_="axis"))
    parts.append(text(f"horizontal: {chart.x_label}", 4, top + 23, class_="axis"))
    top += 36
    columns = min(_COLUMNS, len(chart.panels))
    width = (_RIGHT - _LEFT - _GAP * (_COLUMNS - 1)) / _COLUMNS if columns > 1 else (_RIGHT - _LEFT) * 0.6
    heights = [v for panel in chart.panels for s in panel.series for v in s.y] + [at.at for at in chart.lines]
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, columns)
        left = _LEFT + column * (width + _GAP)
        high = top + row * (_ABOVE + _HEIGHT + _BELOW) + _ABOVE
        low = high + _HEIGHT
        y = log_axis(heights, low, high, most=4) if chart.y_log else linear_axis(heights, low, high, ticks=4)
        x = _across(chart, [panel] if chart.own_x else list(chart.panels), left, left + width)
        parts.append(text(shortened(panel.title, int(width / CHARACTER)), left, high - 7))
        parts += ticks_up(y, left, left + width, numbers=column == 0)
        parts += ticks_across(x, high, low)
        for reference in chart.lines:
            place = y.place(reference.at)
            parts.append(mark(reference.label, line(left, place, left + width, place, "reference")))
        for series in panel.series:
            parts += curve(series, x, y, 2.8)
    rows = -(-len(chart.panels) // columns)
    return parts, top + rows * (_ABOVE + _HEIGHT + _BELOW) + 4


def _across(chart: PanelChart, shown: Sequence[object], left: float, right: float) -> Axis:
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
