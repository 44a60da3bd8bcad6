"""Charts as data: what is drawn, with the table that says the same. How it is drawn is for others to know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Row = TypeVar("Row")

Colour = Literal["c0", "c1", "c2", "c3", "c4", "c5", "c6", "dense", "refused", "accent"]
"""Colours by role; style sheets say what they look like."""

SERIES: tuple[Colour, ...] = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")


Kind = Literal["points", "line", "step"]
"""How the points of a series are joined."""


@dataclass(frozen=True)
class Table:
    """Rows of text under their headings; ``highlighted`` are positions of rows that stand out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    highlighted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """A straight line across a chart where ``axis`` has the value ``at``."""

    label: str
    at: float
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True)
class Bars:
    """One bar per category, None where there is none."""

    label: str
    colour: Colour
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Points:
    """Points (x, y), with a text for each; ``kind`` says how they are joined, ``symbol`` how each is marked.

    Without a label there is only the curve.
    """

    label: str
    colour: Colour
    x: tuple[float, ...]
    y: tuple[float, ...]
    texts: tuple[str, ...]
    kind: Kind = "points"
    symbol: int = 0


@dataclass(frozen=True)
class StripPart:
    """A layer in the strip: as wide as ``width``, filled to the share ``filled`` of its height."""

    label: str
    colour: Colour
    width: float
    filled: float
    text: str


@dataclass(frozen=True)
class Drawing:
    """What every chart has: a file is called after its ``name``, and the ``table`` says the same in words."""

    name: str
    title: str
    caption: str
    table: Table


@dataclass(frozen=True)
class BarChart(Drawing):
    """Horizontal bars, a group per category; ``lines`` stand across them."""

    label: str
    categories: tuple[str, ...]
    series: tuple[Bars, ...]
    log: bool = False
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class PointChart(Drawing):
    """Points and curves over two axes; without ``y_label`` the vertical axis means nothing and is not drawn."""

    x_label: str
    y_label: str | None
    series: tuple[Points, ...]
    lines: tuple[Line, ...] = ()
    height: int = 300
    y_log: bool = False
    x_log: bool = False


@dataclass(frozen=True)
class Panel:
    """One of several small plots."""

    title: str
    series: tuple[Points, ...]


@dataclass(frozen=True)
class PanelChart(Drawing):
    """Small plots side by side with one vertical axis.

    With ``own_x`` each has a logarithmic horizontal axis over its own values, which are positive. Series of one label
    are the same thing in all of them.
    """

    x_label: str
    y_label: str
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...] = ()
    y_log: bool = False
    own_x: bool = False


@dataclass(frozen=True)
class StripChart(Drawing):
    """Parts side by side whose filled areas add up to what is left of the whole."""

    x_label: str
    y_label: str
    parts: tuple[StripPart, ...]
    legend: tuple[tuple[str, Colour], ...]


Chart = BarChart | PanelChart | PointChart | StripChart


def with_content(charts: Iterable[Chart | None]) -> list[Chart]:
    """Those that there is something to show in."""
    return [chart for chart in charts if chart is not None and not (isinstance(chart, PanelChart) and not chart.panels)]


@dataclass(frozen=True)
class Mark:
    """One value to be drawn: of which series, where (None: nowhere), with which text, and in which small plot."""

    series: str
    x: float | None
    y: float | None
    text: str
    panel: str = ""


def series_of(
    marks: Iterable[Mark], labels: Sequence[str], kinds: Sequence[Kind] = (), *, positive: bool = False
) -> tuple[Points, ...]:
    """Marks as series, each from left to right, those that have a mark.

    Args:
        marks: in any order; those that have no place are left out.
        labels: of all series; the position of a label decides colour and symbol.
        kinds: how the marks of each series are joined; lines where absent.
        positive: whether the vertical axis is logarithmic, so that nothing below or at zero has a place.
    """
    known = [
        (mark.series, x, y, mark.text)
        for mark in marks
        if (x := finite(mark.x)) is not None and (y := finite(mark.y)) is not None and (y > 0 or not positive)
    ]
    made = []
    for index, label in enumerate(labels):
        places = sorted((place for place in known if place[0] == label), key=lambda place: place[1])
        if places:
            _, xs, ys, texts = zip(*places, strict=True)
            kind = kinds[index] if kinds else "line"
            made.append(Points(label, series_colour(index), xs, ys, texts, kind, index))
    return tuple(made)


def panels_of(
    marks: Sequence[Mark], labels: Sequence[str], kinds: Sequence[Kind] = (), *, positive: bool = False
) -> tuple[Panel, ...]:
    """Marks as small plots, in the order in which their titles come up, those in which there is a mark."""
    made = (
        Panel(title, series_of((mark for mark in marks if mark.panel == title), labels, kinds, positive=positive))
        for title in distinct(mark.panel for mark in marks)
    )
    return tuple(panel for panel in made if panel.series)


def table_of(
    rows: Iterable[Row], columns: Mapping[str, Callable[[Row], str]], highlighted: Callable[[Row], bool] | None = None
) -> Table:
    """One row of text for each of ``rows``: under each heading what its function says of the row."""
    rows = list(rows)
    cells = tuple(tuple(cell(row) for cell in columns.values()) for row in rows)
    marked = tuple(at for at, row in enumerate(rows) if highlighted is not None and highlighted(row))
    return Table(tuple(columns), cells, marked)


def series_colour(index: int) -> Colour:
    """The colour of the series of that number."""
    return SERIES[index % len(SERIES)]


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in the order in which they come up."""
    return list(dict.fromkeys(values))


def finite(value: Any) -> float | None:
    """A number that can be drawn, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number_text(value: Any, form: str, scale: float = 1.0, *, absent: str = "") -> str:
    """``scale`` times a number, in the format ``form``; ``absent`` where there is none."""
    number = finite(value)
    return absent if number is None else form.format(scale * number)


def percent(value: float | None) -> str:
    """A fraction in per cent, nothing for None."""
    return number_text(value, "{:.2f}", 100.0)


def in_percent(value: float | None) -> float | None:
    """A fraction in per cent, as a number."""
    return None if value is None else 100.0 * value
