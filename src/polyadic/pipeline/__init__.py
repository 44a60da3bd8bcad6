"""The five verbs, and compress, which is the five in a row."""

from polyadic.pipeline.apply import Applied, apply_plan
from polyadic.pipeline.compress import CompressionResult, compress
from polyadic.pipeline.estimate import estimate_cost
from polyadic.pipeline.evaluate import evaluate
from polyadic.pipeline.finetune import finetune
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.own_loop import KnownScore, OwnScore
from polyadic.pipeline.search import find_plan
from polyadic.pipeline.summarise import warnings_of
from polyadic.schema import CostEstimate, LayerEstimate, SearchResult, TriedPlan

__all__ = [
    "Applied",
    "CompressOptions",
    "CompressionResult",
    "CostEstimate",
    "KnownScore",
    "LayerEstimate",
    "OnProgress",
    "OwnScore",
    "Progress",
    "SearchResult",
    "TriedPlan",
    "apply_plan",
    "compress",
    "estimate_cost",
    "evaluate",
    "find_plan",
    "finetune",
    "warnings_of",
]
