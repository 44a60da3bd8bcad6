"""A result as something to read."""

from polyadic.reporting.model_card import markdown, model_card
from polyadic.reporting.tables import (
    HEADLINE_COLUMNS,
    LAYER_COLUMNS,
    SITE_COLUMNS,
    headline_rows,
    layer_rows,
    site_rows,
)

__all__ = [
    "HEADLINE_COLUMNS",
    "LAYER_COLUMNS",
    "SITE_COLUMNS",
    "headline_rows",
    "layer_rows",
    "markdown",
    "model_card",
    "site_rows",
]
