"""Charts as data: what is drawn, with the table that says the same. How it is drawn is for others to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class Block:
    """A part of the strip: as wide as ``width``, filled to the share ``filled`` of its height."""

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
    """Blocks side by side whose filled areas add up to what is left of the whole."""

    name: str
    title: str
    caption: str
    table: Table
    x_label: str
    y_label: str
    blocks: tuple[Block, ...]
    legend: tuple[tuple[str, Colour], ...]


Chart = BarChart | PanelChart | PointChart | StripChart
