"""Frozen descriptions in integers and JSON; no algorithm."""

from polyadic.schema.budget import Budget
from polyadic.schema.chain import Stage, chain_macs, chain_params
from polyadic.schema.conv_spec import ConvSpec
from polyadic.schema.cost import Cost
from polyadic.schema.layer_site import LayerSite
from polyadic.schema.plan import Choice, Plan, Rank, plain_rank
from polyadic.schema.result import LayerOutcome, Summary, points
from polyadic.schema.tt_spec import TTSpec, Way

__all__ = [
    "Budget",
    "Choice",
    "ConvSpec",
    "Cost",
    "LayerOutcome",
    "LayerSite",
    "Plan",
    "Rank",
    "Stage",
    "Summary",
    "TTSpec",
    "Way",
    "chain_macs",
    "chain_params",
    "plain_rank",
    "points",
]
