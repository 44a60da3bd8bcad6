"""Colours that can be told from what they stand on, by the contrast of WCAG 2.1 (sections 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

TEMPLATES = files("polyadic.reporting").joinpath("templates")
PAGE = TEMPLATES.joinpath("page.css").read_text(encoding="utf-8")
FIGURE = TEMPLATES.joinpath("figure.css").read_text(encoding="utf-8")
DECLARED = re.compile(r"--(\w+): (#[0-9a-f]{6});")
LIGHT, DARK = (dict(DECLARED.findall(part)) for part in PAGE.split("@media")[:2])
MARKS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "dense")
TEXTS = ("ink", "soft", "good", "doubtful", "bad", "open")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(scheme: dict[str, str]) -> None:
    for ground in ("paper", "raised"):
        for name in TEXTS:
            assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
    for ground in ("paper", "outline"):
        for name in MARKS:
            assert contrast(scheme[name], scheme[ground]) >= 3.0, (name, ground)


def test_every_colour_has_a_value_in_both_schemes() -> None:
    assert set(LIGHT) == set(DARK)
    assert set(re.findall(r"var\(--(\w+)\)", PAGE)) <= set(LIGHT)


def test_figures_for_papers_have_the_colours_of_the_page() -> None:
    figure = dict(re.findall(r"^\.(\w+) \{ fill: (#\w+);", FIGURE, re.MULTILINE))
    for name in MARKS:
        assert figure[name] == LIGHT[name]
