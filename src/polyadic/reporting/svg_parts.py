"""Parts of drawings: escaped SVG elements, axes, legends. Colours are classes, which a style sheet fills in."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from polyadic.reporting.chart import Colour

WIDTH = 640.0
CHARACTER = 6.3
"""Width of a character of 12 px, on average."""
_LARGEST = 1e300  # that an axis reaches: only a damaged file says more, and twice of it would be no number

# XML 1.0, section 2.2: what is no character there; HTML calls nearly the same a parse error. JSON can carry all of it.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Axis:
    """Maps values from ``low`` to ``high`` to places from ``start`` to ``end``, by their logarithm if ``log``."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where ``value`` stands."""
        within = min(max(value, 1 / _LARGEST if self.log else -_LARGEST), _LARGEST)
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, within))
        return self.start + (self.end - self.start) * (at - low) / (high - low)


def linear_axis(values: list[float], start: float, end: float, *, ticks: int = 5, from_zero: bool = False) -> Axis:
    """An axis over all ``values`` with about ``ticks`` steps of 1, 2 or 5 times a power of ten; whole if they are."""
    low, high = min(values), max(values)
    whole = all(float(value).is_integer() for value in values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    low, high = (min(max(value, -_LARGEST), _LARGEST) for value in (low, high))
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = abs(high) * 0.01 or 1.0
        low, high = (low if from_zero and low == 0 else low - margin), high + margin
    step = _round_step((high - low) / ticks)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(step * count for count in range(first, last + 1))
    return Axis(marks[0], marks[-1], start, end, marks)


def log_axis(values: list[float], start: float, end: float, *, most: int = 8) -> Axis:
    """An axis over positive ``values``, by decades, of which about ``most`` have a number."""
    least, most_of_all = (min(max(value, 1 / _LARGEST), _LARGEST) for value in (min(values), max(values)))
    first = math.floor(math.log10(least) + 1e-9)
    last = max(math.ceil(math.log10(most_of_all) - 1e-9), first + 1)
    every = math.ceil((last - first) / most)
    marks = tuple(10.0**power for power in range(first, last + 1, every))
    return Axis(10.0**first, 10.0**last, start, end, marks, log=True)


def value_axis(values: list[float], start: float, end: float, *, apart: float = 26.0) -> Axis:
    """A logarithmic axis over positive ``values``, numbered by values that stand at least ``apart`` units apart."""
    known = sorted({min(max(value, 1 / _LARGEST), _LARGEST) for value in values})
    axis = Axis(known[0] / 1.15, known[-1] * 1.15, start, end, (), log=True)
    ticks: list[float] = []
    for value in reversed(known):  # the largest one always has its number
        if not ticks or axis.place(ticks[-1]) - axis.place(value) >= apart:
            ticks.append(value)
    return replace(axis, ticks=tuple(reversed(ticks)))


def number_label(value: float) -> str:
    """A number for an axis: 1.5M, 20k, 0.25."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


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
        text(number_label(tick), axis.place(tick), bottom + 16, anchor="middle", class_="tick") for tick in axis.ticks
    ]


def ticks_up(axis: Axis, left: float, right: float, *, numbers: bool = True) -> list[Markup]:
    """Grid lines from ``left`` to ``right``, and numbers beside them."""
    parts = [line(left, axis.place(tick), right, axis.place(tick), "grid") for tick in axis.ticks]
    if not numbers:
        return parts
    return parts + [
        text(number_label(tick), left - 7, axis.place(tick) + 4, anchor="end", class_="tick") for tick in axis.ticks
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


def shorten(label: str, characters: int) -> str:
    """A label without its middle where it is too long: layers differ at both ends of their names."""
    if len(label) <= characters:
        return label
    head = (characters - 1) // 2
    return f"{label[:head]}\N{HORIZONTAL ELLIPSIS}{label[-(characters - 1 - head) :]}"


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
