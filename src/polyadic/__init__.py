"""Polyadic: compression of trained convolutional networks by stable low-rank tensor decomposition."""

from polyadic.errors import PolyadicError
from polyadic.export import load, save
from polyadic.pipeline import CompressionResult, CompressOptions, Progress, compress
from polyadic.surgery import CP, SVD, TKDCPD, Tucker2, decompose_

__all__ = [
    "CP",
    "SVD",
    "TKDCPD",
    "CompressOptions",
    "CompressionResult",
    "PolyadicError",
    "Progress",
    "Tucker2",
    "compress",
    "decompose_",
    "load",
    "save",
]
