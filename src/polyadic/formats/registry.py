"""The formats by name. A new format is a file beside this one and a line here."""

from __future__ import annotations

from polyadic.errors import LayerError
from polyadic.formats.cp import CPFormat
from polyadic.formats.cp_spatial import SpatialCPFormat
from polyadic.formats.format import Format
from polyadic.formats.spatial_svd import SpatialSVDFormat
from polyadic.formats.svd import SVDFormat
from polyadic.formats.tensor_train import TTFormat
from polyadic.formats.tkd_cpd import TKDCPDFormat
from polyadic.formats.tt_matrix import TTMatrixFormat, parse_modes
from polyadic.formats.tucker2 import Tucker2Format

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
