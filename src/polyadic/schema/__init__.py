"""Frozen descriptions in integers and JSON; no algorithm."""

from polyadic.schema.budget import Budget
from polyadic.schema.chain import Stage, chain_macs, chain_params, stride_early
from polyadic.schema.composition import compose, is_mixing, keeps_constants, move_stride
from polyadic.schema.conv_spec import ConvSpec
from polyadic.schema.cost import Cost, Measure
from polyadic.schema.json_object import VERSION, JsonObject
from polyadic.schema.layer_site import LayerSite
from polyadic.schema.notebook import NotebookResult, Rows, Svg
from polyadic.schema.plan import Choice, Plan, Rank, plain_rank
from polyadic.schema.result import LayerOutcome, Summary, points
from polyadic.schema.search_result import CostEstimate, LatencyResult, LayerEstimate, SearchResult, TriedPlan
from polyadic.schema.trial import Trial
from polyadic.schema.tt_spec import TTSpec, Way

__all__ = [
    "VERSION",
    "Budget",
    "Choice",
    "ConvSpec",
    "Cost",
    "CostEstimate",
    "JsonObject",
    "LatencyResult",
    "LayerEstimate",
    "LayerOutcome",
    "LayerSite",
    "Measure",
    "NotebookResult",
    "Plan",
    "Rank",
    "Rows",
    "SearchResult",
    "Stage",
    "Summary",
    "Svg",
    "TTSpec",
    "Trial",
    "TriedPlan",
    "Way",
    "chain_macs",
    "chain_params",
    "compose",
    "is_mixing",
    "keeps_constants",
    "move_stride",
    "plain_rank",
    "points",
    "stride_early",
]
