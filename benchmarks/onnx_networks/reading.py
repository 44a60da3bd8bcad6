"""What a reader found on a page, compared with what is written there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_networks.pages import Line, Page

Quad = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Count:
    """Characters without blanks: written, found, and found in their place or anywhere on the page."""

    written: int
    found: int
    in_place: int
    anywhere: int

    def __add__(self, other: Count) -> Count:
        return Count(*(mine + theirs for mine, theirs in zip(self.numbers, other.numbers, strict=True)))

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """All four."""
        return self.written, self.found, self.in_place, self.anywhere

    @property
    def f1(self) -> float:
        """2 matched / (written + found), of characters in their place in their line: 0..1."""
        return 2 * self.in_place / max(1, self.written + self.found)

    @property
    def loose_f1(self) -> float:
        """The same of characters anywhere on their page."""
        return 2 * self.anywhere / max(1, self.written + self.found)


def compared(page: Page, boxes: Sequence[tuple[Quad, str]]) -> Count:
    """Count the characters of one page.

    A box belongs to the line in which its middle lies, or to the nearest one no farther than half of its height. Of
    a line's boxes, joined from left to right, the longest common subsequence with the line is in its place.
    """
    of_line: dict[int, list[tuple[float, str]]] = {}
    found_text = ""
    for quad, text in boxes:
        x, y = page.upright(sum(point[0] for point in quad) / len(quad), sum(point[1] for point in quad) / len(quad))
        found_text += _solid(text)
        number = _line_at(page.lines, x, y)
        if number is not None:
            of_line.setdefault(number, []).append((x, text))
    written_text = "".join(_solid(line.text) for line in page.lines)
    in_place = 0
    for number, parts in of_line.items():
        joined = "".join(_solid(text) for _, text in sorted(parts))
        in_place += common_length(_solid(page.lines[number].text), joined)
    anywhere = (Counter(written_text) & Counter(found_text)).total()
    return Count(len(written_text), len(found_text), in_place, anywhere)


def common_length(a: str, b: str) -> int:
    """Length of the longest common subsequence, in O(len(a) len(b))."""
    best = [0] * (len(b) + 1)
    for character in a:
        diagonal = 0
        for column, other in enumerate(b, 1):
            diagonal, best[column] = (
                best[column],
                diagonal + 1 if character == other else max(best[column], best[column - 1]),
            )
    return best[-1]


def _solid(text: str) -> str:
    return "".join(text.split())


def _line_at(lines: Sequence[Line], x: float, y: float) -> int | None:
    """The line at a point of the upright page, if there is one."""
    nearest, distance = None, float("inf")
    for number, line in enumerate(lines):
        left, top, right, bottom = line.box
        height = bottom - top
        away = max(top - y, y - bottom, left - x, x - right, 0.0)
        if away <= height / 2 and away < distance:
            nearest, distance = number, away
    return nearest
