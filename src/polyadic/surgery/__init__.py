"""Work on a whole model: find layers, factorise them, put the chains in, rebuild, re-calibrate."""

from polyadic.surgery.calibrate import recalibrate, recalibrate_if_better
from polyadic.surgery.candidates import find_sites
from polyadic.surgery.factorise import FactorCache, check_finite, default_cache_directory
from polyadic.surgery.input_moments import input_moments, paired_moments
from polyadic.surgery.layer_map import CP, SVD, TKDCPD, LayerMap, Request, Tucker2, decompose_
from polyadic.surgery.rebuild import plan_stages, rebuild
from polyadic.surgery.replace import chain_for, layer_at, put, swapped

__all__ = [
    "CP",
    "SVD",
    "TKDCPD",
    "FactorCache",
    "LayerMap",
    "Request",
    "Tucker2",
    "chain_for",
    "check_finite",
    "decompose_",
    "default_cache_directory",
    "find_sites",
    "input_moments",
    "layer_at",
    "paired_moments",
    "plan_stages",
    "put",
    "rebuild",
    "recalibrate",
    "recalibrate_if_better",
    "swapped",
]
