"""The bridge from decompositions to layers: (geometry, rank) to a chain of plain layers described by integers."""

from polyadic.formats.cp import CPFormat
from polyadic.formats.factored_kernel import FactoredKernel, error_of
from polyadic.formats.format import Format
from polyadic.formats.registry import FORMATS, format_named
from polyadic.formats.svd import SVDFormat
from polyadic.formats.tkd_cpd import TKDCPDFormat
from polyadic.formats.tucker2 import Tucker2Format

__all__ = [
    "FORMATS",
    "CPFormat",
    "FactoredKernel",
    "Format",
    "SVDFormat",
    "TKDCPDFormat",
    "Tucker2Format",
    "error_of",
    "format_named",
]
