"""Pages from templates: every text is escaped, and nothing is fetched."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from polyadic.reporting.svg import svg

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: Any) -> str:
    """The text of a template, with the style sheet."""
    return _environment().get_template(template).render(style=_style(), **context)


def provenance_rows(provenance: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Everything that is known of a run, but for the epochs and what has a place of its own."""
    apart = ("finetuning", "command", "macs_convention")
    return tuple(
        (str(key), plain_text(value)) for key, value in provenance.items() if key not in apart and value is not None
    )


def plain_text(value: Any) -> str:
    """A text as it is, nothing for None, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, for those who save and load and draw no page

    environment = Environment(
        loader=PackageLoader("polyadic.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = svg
    return environment


@functools.cache
def _style() -> Markup:
    return Markup(files("polyadic.reporting").joinpath("templates/page.css").read_text(encoding="utf-8"))
