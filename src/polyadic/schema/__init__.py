"""Frozen descriptions in integers and JSON; no algorithm."""

from polyadic.schema.conv_spec import ConvSpec, chain_macs, chain_params
from polyadic.schema.cost import Cost
from polyadic.schema.layer_site import LayerSite
from polyadic.schema.plan import Choice, Plan, Rank, plain_rank
from polyadic.schema.result import LayerOutcome, Summary, points

__all__ = [
    "Choice",
    "ConvSpec",
    "Cost",
    "LayerOutcome",
    "LayerSite",
    "Plan",
    "Rank",
    "Summary",
    "chain_macs",
    "chain_params",
    "plain_rank",
    "points",
]
