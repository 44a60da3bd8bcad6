"""Dense tensor in, the same tensor in a format out. Usable alone: nothing here knows a network."""

from polyadic.decomposition.cp_als import ALSOptions, cp_als
from polyadic.decomposition.cp_epc import EPCOptions, cp_epc
from polyadic.decomposition.cp_ridge import RidgeOptions, cp_ridge
from polyadic.decomposition.input_norm import InputNorm, corrected_kernel
from polyadic.decomposition.solution import Solution, Stability, StopReason
from polyadic.decomposition.stable_cp import StableOptions, exact_cp, full_rank, stable_cp
from polyadic.decomposition.svd import truncated_svd
from polyadic.decomposition.tkd_cpd import TuckerCP, tkd_cpd
from polyadic.decomposition.tucker2 import Tucker2Options, tucker2, tucker2_bounded, tucker2_rank_frontier

__all__ = [
    "ALSOptions",
    "EPCOptions",
    "InputNorm",
    "RidgeOptions",
    "Solution",
    "Stability",
    "StableOptions",
    "StopReason",
    "Tucker2Options",
    "TuckerCP",
    "corrected_kernel",
    "cp_als",
    "cp_epc",
    "cp_ridge",
    "exact_cp",
    "full_rank",
    "stable_cp",
    "tkd_cpd",
    "truncated_svd",
    "tucker2",
    "tucker2_bounded",
    "tucker2_rank_frontier",
]
