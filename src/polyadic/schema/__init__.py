"""Frozen descriptions in integers and JSON; no algorithm."""

from polyadic.schema.bench_result import BenchNetwork, BenchResult, BenchRow, Conditions, NumberFormat
from polyadic.schema.budget import Budget
from polyadic.schema.chain import Stage, chain_macs, chain_params, stride_early
from polyadic.schema.composition import compose, is_mixing, keeps_constants, move_stride
from polyadic.schema.conv_spec import ConvSpec
from polyadic.schema.cost import Cost, CountedOperation, MacCount, Measure
from polyadic.schema.json_object import VERSION, JsonObject
from polyadic.schema.layer_site import LayerSite
from polyadic.schema.notebook import NotebookResult, Rows, Svg
from polyadic.schema.plan import Choice, Plan, Rank, plain_rank
from polyadic.schema.result import OWN_LOOP, LayerOutcome, Summary
from polyadic.schema.score_words import ScoreWords
from polyadic.schema.search_result import (
    CostEstimate,
    LatencyResult,
    LayerEstimate,
    SearchResult,
    TriedPlan,
    pareto_front,
)
from polyadic.schema.study_result import (
    DegeneracyRow,
    DegeneracyStudy,
    LayerRow,
    LayerStudy,
    RetrainedRow,
    SpectrumRow,
    StudyResult,
    TruncationRow,
    TruncationStudy,
)
from polyadic.schema.trial import Trial, TrialRecord
from polyadic.schema.tt_spec import TTSpec, Way

__all__ = [
    "OWN_LOOP",
    "VERSION",
    "BenchNetwork",
    "BenchResult",
    "BenchRow",
    "Budget",
    "Choice",
    "Conditions",
    "ConvSpec",
    "Cost",
    "CostEstimate",
    "CountedOperation",
    "DegeneracyRow",
    "DegeneracyStudy",
    "JsonObject",
    "LatencyResult",
    "LayerEstimate",
    "LayerOutcome",
    "LayerRow",
    "LayerSite",
    "LayerStudy",
    "MacCount",
    "Measure",
    "NotebookResult",
    "NumberFormat",
    "Plan",
    "Rank",
    "RetrainedRow",
    "Rows",
    "ScoreWords",
    "SearchResult",
    "SpectrumRow",
    "Stage",
    "StudyResult",
    "Summary",
    "Svg",
    "TTSpec",
    "Trial",
    "TrialRecord",
    "TriedPlan",
    "TruncationRow",
    "TruncationStudy",
    "Way",
    "chain_macs",
    "chain_params",
    "compose",
    "is_mixing",
    "keeps_constants",
    "move_stride",
    "pareto_front",
    "plain_rank",
    "stride_early",
]
