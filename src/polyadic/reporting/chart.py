"""Charts as data: what is drawn, with the table that says the same. How it is drawn is for others to know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Row = TypeVar("Row")

Colour = Literal["c0", "c1", "c2", "c3", "c4", "c5", "c6", "dense", "refused", "accent"]
"""Colours by role; style sheets say what they look like."""

SERIES: tuple[Colour, ...] = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")


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
    kind: Literal["points", "line", "step"] = "points"
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
class BarChart:
    """Horizontal bars, a group per category; ``lines`` stand across them."""

    name: str
    title: str
    caption: str
    table: Table
    label: str
    categories: tuple[str, ...]
    series: tuple[Bars, ...]
    log: bool = False
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class PointChart:
    """Points and curves over two axes; without ``y_label`` the vertical axis means nothing and is not drawn."""

    name: str
    title: str
    caption: str
    table: Table
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
class PanelChart:
    """Small plots side by side with one vertical axis.

    With ``own_x`` each has a logarithmic horizontal axis over its own values, which are positive. Series of one label
    are the same thing in all of them.
    """

    name: str
    title: str
    caption: str
    table: Table
    x_label: str
    y_label: str
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...] = ()
    y_log: bool = False
    own_x: bool = False


@dataclass(frozen=True)
class StripChart:
    """Parts side by side whose filled areas add up to what is left of the whole."""

    name: str
    title: str
    caption: str
    table: Table
    x_label: str
    y_label: str
    parts: tuple[StripPart, ...]
    legend: tuple[tuple[str, Colour], ...]


Chart = BarChart | PanelChart | PointChart | StripChart

Place = tuple[float | None, float | None, str]
"""A value across, a value up and the text of the mark; None for what cannot be drawn."""


@dataclass(frozen=True)
class Curve(Generic[Row]):
    """What makes a series of rows: its label, where a row stands in it (None: in another series), how it is joined."""

    label: str
    place: Callable[[Row], Place | None]
    kind: Literal["points", "line", "step"] = "line"


def table_of(
    rows: Iterable[Row], columns: Mapping[str, Callable[[Row], str]], highlighted: Callable[[Row], bool] | None = None
) -> Table:
    """One row of text for each of ``rows``: under each heading what its function says of the row."""
    rows = list(rows)
    cells = tuple(tuple(cell(row) for cell in columns.values()) for row in rows)
    marked = tuple(at for at, row in enumerate(rows) if highlighted is not None and highlighted(row))
    return Table(tuple(columns), cells, marked)


def place_points(
    label: str,
    index: int,
    places: Iterable[Place],
    kind: Literal["points", "line", "step"] = "line",
    *,
    positive: bool = False,
) -> Points:
    """The series number ``index``, from left to right, of those places that can be drawn.

    Args:
        label: the same in all panels.
        index: decides colour and mark.
        places: in any order.
        kind: how they are joined.
        positive: whether the vertical axis is logarithmic, so that nothing below or at zero has a place.
    """
    known = [
        (x, y, said)
        for across, up, said in places
        if (x := finite(across)) is not None and (y := finite(up)) is not None and (y > 0 or not positive)
    ]
    known.sort(key=lambda place: place[0])
    xs, ys, texts = zip(*known, strict=True) if known else ((), (), ())
    return Points(label, series_colour(index), xs, ys, texts, kind, index)


def series_of(rows: Iterable[Row], curve: Curve[Row], index: int, *, positive: bool = False) -> Points:
    """The same of those ``rows`` that have a place in the ``curve``."""
    places = (place for row in rows if (place := curve.place(row)) is not None)
    return place_points(curve.label, index, places, curve.kind, positive=positive)


def panels_of(drawn: Iterable[tuple[str, Iterable[Points]]]) -> tuple[Panel, ...]:
    """Small plots by their titles, without series that have no point, and without those in which none has."""
    shown = ((title, tuple(one for one in series if one.x)) for title, series in drawn)
    return tuple(Panel(title, series) for title, series in shown if series)


def small_plots(
    rows: Sequence[Row], title: Callable[[Row], str], curves: Sequence[Curve[Row]], *, positive: bool = False
) -> tuple[Panel, ...]:
    """A small plot of the rows of each title, in the order in which titles come up."""

    def drawn(name: str) -> Iterator[Points]:
        within = [row for row in rows if title(row) == name]
        return (series_of(within, curve, at, positive=positive) for at, curve in enumerate(curves))

    return panels_of((name, drawn(name)) for name in distinct(map(title, rows)))


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
