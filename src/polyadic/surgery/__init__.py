"""Work on a whole model: find layers, factorise them, put the chains in, rebuild, re-calibrate."""

from polyadic.surgery.calibrate import (
    Statistics,
    recalibrate,
    recalibrate_if_better,
    shift_statistics,
    statistics_kept,
    statistics_over,
)
from polyadic.surgery.candidates import find_sites
from polyadic.surgery.change import Change
from polyadic.surgery.contract import contracted
from polyadic.surgery.factorise import FactorCache, check_finite, default_cache_directory
from polyadic.surgery.input_norms import input_norms
from polyadic.surgery.layer_map import (
    CP,
    CP4,
    SVD,
    TKDCPD,
    TT,
    LayerMap,
    Request,
    SpatialSVD,
    TTMatrix,
    Tucker2,
    decompose_,
)
from polyadic.surgery.parametrised import copied
from polyadic.surgery.rebuild import plan_stages, rebuild
from polyadic.surgery.replace import chain_for, layer_at, put, swapped
from polyadic.surgery.sequential import compress_apart, compress_in_sequence
from polyadic.surgery.sequential_options import SequentialOptions
from polyadic.surgery.simplify import Simplified, simplified

__all__ = [
    "CP",
    "CP4",
    "SVD",
    "TKDCPD",
    "TT",
    "Change",
    "FactorCache",
    "LayerMap",
    "Request",
    "SequentialOptions",
    "Simplified",
    "SpatialSVD",
    "Statistics",
    "TTMatrix",
    "Tucker2",
    "chain_for",
    "check_finite",
    "compress_apart",
    "compress_in_sequence",
    "contracted",
    "copied",
    "decompose_",
    "default_cache_directory",
    "find_sites",
    "input_norms",
    "layer_at",
    "plan_stages",
    "put",
    "rebuild",
    "recalibrate",
    "recalibrate_if_better",
    "shift_statistics",
    "simplified",
    "statistics_kept",
    "statistics_over",
    "swapped",
]
