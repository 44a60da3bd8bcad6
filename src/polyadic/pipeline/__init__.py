"""The verbs that join all rooms: compress, search for a plan, say beforehand what a network would cost."""

from polyadic.pipeline.compress import compress
from polyadic.pipeline.forecast import forecast
from polyadic.pipeline.options import (
    CompressionResult,
    CompressOptions,
    Forecast,
    FoundPlan,
    LayerForecast,
    Progress,
    TriedPlan,
)
from polyadic.pipeline.outcome import environment
from polyadic.pipeline.search_plan import search_plan

__all__ = [
    "CompressOptions",
    "CompressionResult",
    "Forecast",
    "FoundPlan",
    "LayerForecast",
    "Progress",
    "TriedPlan",
    "compress",
    "environment",
    "forecast",
    "search_plan",
]
