"""Parts of drawings: escaped SVG elements, axes, legends. Colours are classes, which a style sheet fills in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from polyadic.reporting.axis import Axis, written
from polyadic.reporting.chart import Colour

WIDTH = 640.0
CHARACTER = 6.3
"""Width of a character of 12 px, on average."""

# XML 1.0, section 2.2: what is no character there; HTML calls nearly the same a parse error. JSON can carry all of it.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


def xml_safe(text: str) -> bytes:
    """UTF-8, with a replacement character for what is no character, such as half of a surrogate pair."""
    return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text).encode()


def element(tag: str, *children: Markup | str, **attributes: object) -> Markup:
    """One element. Names of attributes are written with ``_`` for ``-`` and ``class_``; all text is escaped."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"' for key, value in attributes.items()
    )
    content = Markup("").join(escape(child) for child in children)
    return Markup(f"<{tag}{said}>{content}</{tag}>") if content else Markup(f"<{tag}{said}/>")


def text(content: str, x: float, y: float, *, anchor: str = "start", class_: str = "label") -> Markup:
    """Text that begins, has its middle or ends at (x, y)."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def mark(tooltip: str, *drawn: Markup) -> Markup:
    """What stands for one value, with a text to point at."""
    return element("g", element("title", tooltip), *drawn)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """A rectangle, never of negative size."""
    return element("rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def symbol(number: int, x: float, y: float, class_: str, size: float = 4.0) -> Markup:
    """The mark of the series of that number; shapes differ, so that colours are not needed to tell them apart."""
    if number % 4 == 0:
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    if number % 4 == 1:
        return rectangle(x - size, y - size, 2 * size, 2 * size, class_)
    corners = ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)) if number % 4 == 2 else ((0, -6), (6, 5), (-6, 5))
    places = ((x + dx * size / 4.0, y + dy * size / 4.0) for dx, dy in corners)
    return element("polygon", points=" ".join(f"{px:.1f},{py:.1f}" for px, py in places), class_=class_)


def horizontal_axis(axis: Axis, top: float, bottom: float, label: str) -> list[Markup]:
    """Grid lines from ``top`` to ``bottom``, numbers and the label below."""
    label_at = (axis.start + axis.end) / 2
    return [*ticks_across(axis, top, bottom), text(label, label_at, bottom + 34, anchor="middle", class_="axis")]


def vertical_axis(axis: Axis, left: float, right: float, label: str) -> list[Markup]:
    """Grid lines from ``left`` to ``right``, numbers beside them; the label stands above, where it can be read."""
    return [*ticks_up(axis, left, right), text(label, left - 40, axis.end - 26, class_="axis")]


def ticks_across(axis: Axis, top: float, bottom: float) -> list[Markup]:
    """Grid lines from ``top`` to ``bottom``, and numbers below."""
    parts = [line(axis.place(tick), top, axis.place(tick), bottom, "grid") for tick in axis.ticks]
    return parts + [
        text(written(tick), axis.place(tick), bottom + 16, anchor="middle", class_="tick") for tick in axis.ticks
    ]


def ticks_up(axis: Axis, left: float, right: float, *, numbers: bool = True) -> list[Markup]:
    """Grid lines from ``left`` to ``right``, and numbers beside them."""
    parts = [line(left, axis.place(tick), right, axis.place(tick), "grid") for tick in axis.ticks]
    if not numbers:
        return parts
    return parts + [
        text(written(tick), left - 7, axis.place(tick) + 4, anchor="end", class_="tick") for tick in axis.ticks
    ]


def legend(entries: Sequence[tuple[str, Colour, int | None]], y: float) -> tuple[list[Markup], float]:
    """Labels with their swatch, or the symbol of that number, in as many lines as they need; and where they end."""
    parts, x = [], 4.0
    for label, colour, number in entries:
        width = 22 + CHARACTER * len(label) + 14
        if x > 4.0 and x + width > WIDTH:
            x, y = 4.0, y + 20
        swatch = rectangle(x, y - 10, 12, 12, colour) if number is None else symbol(number, x + 6, y - 4, colour)
        parts += [swatch, text(label, x + 18, y)]
        x += width
    return parts, y + 20 if entries else y


def shortened(label: str, characters: int) -> str:
    """A label without its middle where it is too long: layers differ at both ends of their names."""
    if len(label) <= characters:
        return label
    head = (characters - 1) // 2
    return f"{label[:head]}\N{HORIZONTAL ELLIPSIS}{label[-(characters - 1 - head) :]}"


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
