"""The verbs that join all rooms: compress, search for a plan, say beforehand what a network would cost."""

from polyadic.pipeline.compress import compress
from polyadic.pipeline.forecast import estimate_cost
from polyadic.pipeline.options import (
    CompressionResult,
    CompressOptions,
    CostEstimate,
    LayerEstimate,
    Progress,
    SearchResult,
    TriedPlan,
)
from polyadic.pipeline.outcome import environment
from polyadic.pipeline.search_plan import find_plan

__all__ = [
    "CompressOptions",
    "CompressionResult",
    "CostEstimate",
    "LayerEstimate",
    "Progress",
    "SearchResult",
    "TriedPlan",
    "compress",
    "environment",
    "estimate_cost",
    "find_plan",
]
