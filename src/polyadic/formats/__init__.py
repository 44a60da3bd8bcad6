"""The bridge from decompositions to layers: (geometry, rank) to a chain of plain layers described by integers."""

from polyadic.formats.cp import CPFormat
from polyadic.formats.cp_spatial import SpatialCPFormat
from polyadic.formats.factored_kernel import FactoredKernel, error_of
from polyadic.formats.format import Format
from polyadic.formats.rank_for import rank_for, rank_without_kernel
from polyadic.formats.registry import FORMATS, format_named
from polyadic.formats.spatial_svd import SpatialSVDFormat
from polyadic.formats.svd import SVDFormat
from polyadic.formats.tensor_train import TTFormat
from polyadic.formats.tkd_cpd import TKDCPDFormat
from polyadic.formats.tt_kernel import contract_train, split_cores
from polyadic.formats.tt_matrix import TTMatrixFormat
from polyadic.formats.tucker2 import Tucker2Format

__all__ = [
    "FORMATS",
    "CPFormat",
    "FactoredKernel",
    "Format",
    "SVDFormat",
    "SpatialCPFormat",
    "SpatialSVDFormat",
    "TKDCPDFormat",
    "TTFormat",
    "TTMatrixFormat",
    "Tucker2Format",
    "contract_train",
    "error_of",
    "format_named",
    "rank_for",
    "rank_without_kernel",
    "split_cores",
]
