"""The bridge from decompositions to layers: (geometry, rank) to a chain of plain layers described by integers.

A new format is a file beside this one and a line in ``FORMATS``.
"""

from polyadic.errors import LayerError
from polyadic.formats.cp import CPFormat
from polyadic.formats.cp_spatial import SpatialCPFormat
from polyadic.formats.factored_kernel import FactoredKernel, contract_train, error_of, split_cores
from polyadic.formats.format import Format
from polyadic.formats.rank_for import rank_for, rank_without_kernel
from polyadic.formats.spatial_svd import SpatialSVDFormat
from polyadic.formats.svd import SVDFormat
from polyadic.formats.tensor_train import TTFormat
from polyadic.formats.tkd_cpd import TKDCPDFormat
from polyadic.formats.tt_matrix import TTMatrixFormat, parse_modes
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

FORMATS: dict[str, Format] = {
    fmt.name: fmt
    for fmt in (
        CPFormat("cp-epc"),
        CPFormat("cp-als"),
        CPFormat("cp-als-epc"),
        SpatialCPFormat(),
        Tucker2Format(),
        TKDCPDFormat(),
        SVDFormat(),
        SpatialSVDFormat(),
        TTFormat(),
        TTMatrixFormat(),
    )
}


def format_named(name: str) -> Format:
    """The format of that name with its default options; ``tt-matrix[4x8x4,4x4x4]`` gives its modes, rows first.

    Raises:
        LayerError: no format has that name.
    """
    if name.startswith("tt-matrix[") and name.endswith("]"):
        return TTMatrixFormat(*parse_modes(name[len("tt-matrix[") : -1]))
    if name not in FORMATS:
        raise LayerError(f"a format is one of {', '.join(FORMATS)}; got {name!r}")
    return FORMATS[name]
