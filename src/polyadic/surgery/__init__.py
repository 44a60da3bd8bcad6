"""Work on a whole model: find layers, factorise them, put the chains in, rebuild, re-calibrate."""

from polyadic.surgery.calibrate import (
    Statistics,
    keep_statistics,
    measure_statistics,
    recalibrate,
    recalibrate_if_better,
    shift_statistics,
)
from polyadic.surgery.factor_cache import FactorCache, default_cache_directory
from polyadic.surgery.find_layers import find_layers, find_layers_as_is
from polyadic.surgery.fold import Change
from polyadic.surgery.fold_and_merge import FoldedModel, fold_and_merge
from polyadic.surgery.layer_fit import SequentialOptions, input_norms
from polyadic.surgery.layer_map import (
    CP,
    CP4,
    SVD,
    TKDCPD,
    TT,
    LayerConfig,
    LayerMap,
    SpatialSVD,
    TTMatrix,
    Tucker2,
    decompose_,
)
from polyadic.surgery.layer_names import check_patterns, matches_any
from polyadic.surgery.model_checks import check_finite
from polyadic.surgery.network_cost import MACS_CONVENTION, count_operations, network_cost
from polyadic.surgery.plain_layers import copy_model, replaced_methods
from polyadic.surgery.projections import (
    is_separate,
    module_at,
    pack_projections,
    separate_for_good,
)
from polyadic.surgery.rebuild import merge, plan_stages, rebuild
from polyadic.surgery.replace import chain_for, layer_at, replace_layer, spec_at, swap_layer
from polyadic.surgery.replace_by_plan import replace_in_sequence, replace_one_by_one
from polyadic.surgery.unwrap import unwrap_model

__all__ = [
    "CP",
    "CP4",
    "MACS_CONVENTION",
    "SVD",
    "TKDCPD",
    "TT",
    "Change",
    "FactorCache",
    "FoldedModel",
    "LayerConfig",
    "LayerMap",
    "SequentialOptions",
    "SpatialSVD",
    "Statistics",
    "TTMatrix",
    "Tucker2",
    "chain_for",
    "check_finite",
    "check_patterns",
    "copy_model",
    "count_operations",
    "decompose_",
    "default_cache_directory",
    "find_layers",
    "find_layers_as_is",
    "fold_and_merge",
    "input_norms",
    "is_separate",
    "keep_statistics",
    "layer_at",
    "matches_any",
    "measure_statistics",
    "merge",
    "module_at",
    "network_cost",
    "pack_projections",
    "plan_stages",
    "rebuild",
    "recalibrate",
    "recalibrate_if_better",
    "replace_in_sequence",
    "replace_layer",
    "replace_one_by_one",
    "replaced_methods",
    "separate_for_good",
    "shift_statistics",
    "spec_at",
    "swap_layer",
    "unwrap_model",
]
