"""Polyadic: compression of trained convolutional networks by stable low-rank tensor decomposition."""

from polyadic.errors import PolyadicError
from polyadic.export import load, save
from polyadic.layers import fused
from polyadic.pipeline import CompressionResult, CompressOptions, Progress, compress
from polyadic.surgery import CP, CP4, SVD, TKDCPD, TT, SpatialSVD, TTMatrix, Tucker2, decompose_, fold_and_merge

__all__ = [
    "CP",
    "CP4",
    "SVD",
    "TKDCPD",
    "TT",
    "CompressOptions",
    "CompressionResult",
    "PolyadicError",
    "Progress",
    "SpatialSVD",
    "TTMatrix",
    "Tucker2",
    "compress",
    "decompose_",
    "fold_and_merge",
    "fused",
    "load",
    "save",
]
