"""How rows of a study become series of small plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polyadic.reporting.chart import SERIES, Panel, Points
from polyadic.reporting.records import finite

Place = tuple[float | None, float | None, str]
"""A value across, a value up and the text of the mark; None for what cannot be drawn."""


def points(label: str, index: int, places: Iterable[Place], *, line: bool = True, positive: bool = False) -> Points:
    """The series number ``index``, from left to right, of those places that can be drawn.

    Args:
        label: the same in all panels.
        index: decides colour and mark.
        places: in any order.
        line: whether they are joined.
        positive: whether the vertical axis is logarithmic, so that nothing below or at zero has a place.
    """
    known = [
        (x, y, said)
        for across, up, said in places
        if (x := finite(across)) is not None and (y := finite(up)) is not None and (y > 0 or not positive)
    ]
    known.sort(key=lambda place: place[0])
    return Points(
        label,
        SERIES[index % len(SERIES)],
        tuple(x for x, _, _ in known),
        tuple(y for _, y, _ in known),
        tuple(said for _, _, said in known),
        "line" if line else "points",
        index,
    )


def panel(title: str, series: Iterable[Points]) -> Panel | None:
    """The series that have a point; None where none has."""
    shown = tuple(one for one in series if one.x)
    return Panel(title, shown) if shown else None


def present(panels: Iterable[Panel | None]) -> tuple[Panel, ...]:
    """Those that there are."""
    return tuple(one for one in panels if one is not None)


def percent(value: float | None) -> str:
    """A fraction in per cent, nothing for None."""
    return "" if value is None else f"{100 * value:.2f}"


def scaled(value: float | None) -> float | None:
    """A fraction in per cent."""
    return None if value is None else 100.0 * value


def number(value: float | None, form: str = "{:.3g}") -> str:
    """A number as text; "infinite" where the study found no finite one."""
    return "infinite" if value is None else form.format(value)


def distinct(values: Iterable[str]) -> Sequence[str]:
    """Each value once, in the order in which they come up."""
    return list(dict.fromkeys(values))
