"""Dense tensor in, the same tensor in a format out. Usable alone: nothing here knows a network."""

from polyadic.decomposition.bounded_factor import Objective
from polyadic.decomposition.cp_als import ALSOptions, cp_als, cp_als_batch
from polyadic.decomposition.cp_bounded import BoundedOptions, cp_bounded
from polyadic.decomposition.cp_deflation import DeflationOptions, cp_deflation
from polyadic.decomposition.cp_epc import EPCOptions, cp_epc, cp_epc_rounds
from polyadic.decomposition.cp_klm import KLMOptions, cp_klm
from polyadic.decomposition.cp_lm import LMOptions, cp_lm
from polyadic.decomposition.cp_low_rank import LowRankCP, LowRankOptions, cp_low_rank
from polyadic.decomposition.cp_low_rank_bounded import cp_low_rank_bounded
from polyadic.decomposition.cp_rank_path import RankPath, RankPathOptions, cp_rank_path
from polyadic.decomposition.cp_ridge import PathPoint, RidgeOptions, cp_ridge, cp_ridge_batch, cp_ridge_curve
from polyadic.decomposition.data_aware import InputNorm, ModeWeight, PatchMoments, fitted_bias, fitted_kernel
from polyadic.decomposition.diagnostics import Diagnosis, diagnose
from polyadic.decomposition.evbmf import EVBMF, evbmf_rank, evbmf_tucker2_ranks, support_core
from polyadic.decomposition.solution import Solution, Stability, StopReason
from polyadic.decomposition.stable_cp import StableOptions, exact_cp, full_rank, stable_cp, stable_cp_batch
from polyadic.decomposition.svd import truncated_svd
from polyadic.decomposition.tkd_cpd import SplitForecast, TuckerCP, forecast_split, likely_ranks, tkd_cpd, tkd_weights
from polyadic.decomposition.tkd_cpd_bounded import tkd_cpd_bounded
from polyadic.decomposition.tt_als import TTALSOptions, tt_als
from polyadic.decomposition.tt_matrix import tt_matrix, tt_matrix_als, tt_matrix_round
from polyadic.decomposition.tt_rounding import tt_round
from polyadic.decomposition.tt_svd import tt_svd, tt_svd_bounded
from polyadic.decomposition.tucker2 import Tucker2Options, tucker2
from polyadic.decomposition.tucker2_ranks import (
    FrontierPoint,
    tucker2_bounded,
    tucker2_frontier,
    tucker2_macs,
    tucker2_rank_frontier,
    tucker2_weights,
)

__all__ = [
    "EVBMF",
    "ALSOptions",
    "BoundedOptions",
    "DeflationOptions",
    "Diagnosis",
    "EPCOptions",
    "FrontierPoint",
    "InputNorm",
    "KLMOptions",
    "LMOptions",
    "LowRankCP",
    "LowRankOptions",
    "ModeWeight",
    "Objective",
    "PatchMoments",
    "PathPoint",
    "RankPath",
    "RankPathOptions",
    "RidgeOptions",
    "Solution",
    "SplitForecast",
    "Stability",
    "StableOptions",
    "StopReason",
    "TTALSOptions",
    "Tucker2Options",
    "TuckerCP",
    "cp_als",
    "cp_als_batch",
    "cp_bounded",
    "cp_deflation",
    "cp_epc",
    "cp_epc_rounds",
    "cp_klm",
    "cp_lm",
    "cp_low_rank",
    "cp_low_rank_bounded",
    "cp_rank_path",
    "cp_ridge",
    "cp_ridge_batch",
    "cp_ridge_curve",
    "diagnose",
    "evbmf_rank",
    "evbmf_tucker2_ranks",
    "exact_cp",
    "fitted_bias",
    "fitted_kernel",
    "forecast_split",
    "full_rank",
    "likely_ranks",
    "stable_cp",
    "stable_cp_batch",
    "support_core",
    "tkd_cpd",
    "tkd_cpd_bounded",
    "tkd_weights",
    "truncated_svd",
    "tt_als",
    "tt_matrix",
    "tt_matrix_als",
    "tt_matrix_round",
    "tt_round",
    "tt_svd",
    "tt_svd_bounded",
    "tucker2",
    "tucker2_bounded",
    "tucker2_frontier",
    "tucker2_macs",
    "tucker2_rank_frontier",
    "tucker2_weights",
]
